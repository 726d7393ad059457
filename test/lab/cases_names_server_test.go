package lab

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// serveNames is a name server, in the lab's own process, that has one answer.
func (c *Case) serveNames(network, name string, at netip.Addr) {
	c.Helper()
	here := netip.AddrPortFrom(at, 53).String()
	var server io.Closer
	err := c.Pair.B.Do(func() error {
		if network == "udp" {
			socket, err := net.ListenPacket("udp4", here)
			if err != nil {
				return err
			}
			server = socket
			go answerDatagrams(socket, name, at)
			return nil
		}
		listener, err := net.Listen("tcp4", here)
		if err != nil {
			return err
		}
		server = listener
		go answerStreams(listener, name, at)
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = server.Close() }) // ends the goroutine
}

func answerDatagrams(socket net.PacketConn, name string, at netip.Addr) {
	question := make([]byte, 512)
	for {
		n, from, err := socket.ReadFrom(question)
		if err != nil {
			return
		}
		_, _ = socket.WriteTo(answerTo(question[:n], name, at), from)
	}
}

func answerStreams(listener net.Listener, name string, at netip.Addr) {
	for {
		stream, err := listener.Accept()
		if err != nil {
			return
		}
		length := make([]byte, 2)
		if _, err = io.ReadFull(stream, length); err == nil {
			question := make([]byte, binary.BigEndian.Uint16(length))
			if _, err = io.ReadFull(stream, question); err == nil {
				answer := answerTo(question, name, at)
				_, _ = stream.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}
		_ = stream.Close()
	}
}

// answerTo says which address the name has, whatever is asked.
func answerTo(question []byte, name string, at netip.Addr) []byte {
	called := dnsmessage.MustNewName(name + ".")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(question), Response: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{{Name: called, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: called, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: at.As4()},
		}},
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}
