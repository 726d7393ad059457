package lab

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// wireguard lets the kernel carry a connection and datagrams of processes in encrypted datagrams of its own, which it sends
// from threads of its own: only the inner ones count, and no process gets the others.
func wireguard(c *Case) {
	addresses := []netip.Prefix{netip.MustParsePrefix("10.98.0.1/24"), netip.MustParsePrefix("10.98.0.2/24")}
	keys := []*ecdh.PrivateKey{newKey(c), newKey(c)}
	for i, s := range []*Space{c.Pair.A, c.Pair.B} {
		there := []*Space{c.Pair.B, c.Pair.A}[i]
		err := s.Do(func() error {
			return addWireguard(c.TempDir(), keys[i], keys[1-i].PublicKey(), there.V4, addresses[i], addresses[1-i].Addr())
		})
		c.Feature("WireGuard", !errors.Is(err, unix.EOPNOTSUPP))
		if err != nil {
			c.Fatal(err)
		}
	}
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", addresses[0].Addr())
	a.SendTo("s", 700, b.Bound("s", "udp4", addresses[1].Addr()))
	b.Datagrams(script.RecvFrom, "s", 1)
	a.Dial("t", "tcp4", b.Listen("l", "tcp4", addresses[1].Addr()))
	b.Accept("l", "t")
	b.Send("t", 5000, 2)
	a.Receive("t", 10_000)
	a.Finish()
	b.Finish()
	c.Check()
	const outer = 14 + 20 + 8 + 16 + 16 // Ethernet, IP, UDP, WireGuard's header and authentication
	c.awaitTunnel("wireguard", c.Pair.B.V4.String(), 700+outer)
	c.awaitTunnel("wireguard", c.Pair.A.V4.String(), 10_000+outer)
}

func newKey(c *Case) *ecdh.PrivateKey {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		c.Fatal(err)
	}
	return key
}

// addWireguard makes a device whose only peer is at the other end of the veth pair. Its tool reads the key from a file.
func addWireguard(dir string, key *ecdh.PrivateKey, peer *ecdh.PublicKey, there netip.Addr, inner netip.Prefix, innerThere netip.Addr) error {
	const name, port = "labwg", "51820"
	if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return fmt.Errorf("make WireGuard device: %w", err)
	}
	secret := filepath.Join(dir, "key")
	if err := os.WriteFile(secret, []byte(base64.StdEncoding.EncodeToString(key.Bytes())), 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	set := exec.Command("wg", "set", name, "listen-port", port, "private-key", secret,
		"peer", base64.StdEncoding.EncodeToString(peer.Bytes()), "endpoint", there.String()+":"+port, "allowed-ips", innerThere.String()+"/32")
	if out, err := set.CombinedOutput(); err != nil {
		return fmt.Errorf("set up WireGuard device: %w: %s", err, out)
	}
	return raise(name, inner)
}
