package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// handlePayload queues what may name an address.
func (k *Kernel) handlePayload(sample []byte) error {
	var p kernelPayload
	if _, err := binary.Decode(sample, binary.NativeEndian, &p); err != nil {
		return fmt.Errorf("decode payload: %w", err)
	}
	k.queue = append(k.queue, &Payload{
		Process: keyOf(p.Event.Process), Socket: p.Socket, NetNS: p.Netns, UID: p.Uid, Protocol: uint32(p.Protocol),
		Remote: endpoint(p.Remote, p.RemotePort, 0), Received: p.Received != 0, Time: int64(p.Event.Time), Offset: p.Offset,
		Data: append([]byte(nil), p.Data[:min(int(p.Length), len(p.Data))]...),
	})
	return nil
}

// handleLookup queues what getaddrinfo told a process.
func (k *Kernel) handleLookup(sample []byte) error {
	var l kernelLookup
	if _, err := binary.Decode(sample, binary.NativeEndian, &l); err != nil {
		return fmt.Errorf("decode lookup: %w", err)
	}
	e := &Lookup{Process: keyOf(l.Event.Process), NetNS: l.Netns, UID: l.Uid, Time: int64(l.Event.Time), Host: text(l.Host[:])}
	for _, raw := range l.Addresses[:min(int(l.Count), len(l.Addresses))] {
		e.Addresses = append(e.Addresses, netip.AddrFrom16(raw).Unmap())
	}
	k.queue = append(k.queue, e)
	return nil
}
