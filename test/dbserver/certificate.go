package dbserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificates makes a certification authority and a certificate of it for localhost.
func (s *Server) certificates() {
	s.t.Helper()
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	authorityKey, leafKey := s.key(), s.key()
	s.certificate("ca.pem", authority, authority, authorityKey, authorityKey)
	s.certificate("server.pem", leaf, authority, leafKey, authorityKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		s.t.Fatal(err)
	}
	s.file("server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func (s *Server) key() *ecdsa.PrivateKey {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

func (s *Server) certificate(name string, of, by *x509.Certificate, key, signer *ecdsa.PrivateKey) {
	s.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, of, by, &key.PublicKey, signer)
	if err != nil {
		s.t.Fatal(err)
	}
	s.file(name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// Authority writes a certificate that no server's is signed with, and returns its path.
func Authority(t testing.TB) string {
	t.Helper()
	s := &Server{Directory: t.TempDir(), t: t, uid: os.Getuid(), gid: os.Getgid()}
	s.certificates()
	return filepath.Join(s.Directory, "ca.pem")
}
