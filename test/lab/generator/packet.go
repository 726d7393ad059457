package main

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	frameSize  = 2048
	frameCount = 8
	frameData  = 32 // where a frame to be sent begins, after struct tpacket2_hdr: TPACKET_ALIGN'ed, less the address
)

// frameRing is a ring that a packet socket shares with the kernel.
type frameRing struct {
	memory []byte
	next   int
}

func (s *socket) frames(option int) (*frameRing, error) {
	if s.room != nil {
		return s.room, nil
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, err
	}
	request := unix.TpacketReq{Block_size: frameSize * frameCount, Block_nr: 1, Frame_size: frameSize, Frame_nr: frameCount}
	if err := unix.SetsockoptTpacketReq(s.fd, unix.SOL_PACKET, option, &request); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(s.fd, 0, frameSize*frameCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map packet ring: %w", err)
	}
	s.room = &frameRing{memory: memory}
	return s.room, nil
}

func (r *frameRing) header() (*unix.Tpacket2Hdr, []byte) {
	slot := r.memory[r.next*frameSize : (r.next+1)*frameSize]
	r.next = (r.next + 1) % frameCount
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(unsafe.SliceData(slot))), slot
}

// sendFrames writes a frame into the ring and lets one sendto(2) send it.
func sendFrames(_ *puppet, s *socket, buf []byte, _ unix.Sockaddr) ([]moved, error) {
	r, err := s.frames(unix.PACKET_TX_RING)
	if err != nil {
		return nil, err
	}
	header, slot := r.header()
	copy(slot[frameData:], buf)
	header.Len = uint32(len(buf))
	atomic.StoreUint32(&header.Status, unix.TP_STATUS_SEND_REQUEST)
	return one(sendCall(s.fd, nil))
}

// receiveFrames reads a frame out of the ring: no call of the process returns its bytes.
func receiveFrames(_ *puppet, s *socket, _ []byte, _ int) ([]moved, error) {
	r, err := s.frames(unix.PACKET_RX_RING)
	if err != nil {
		return nil, err
	}
	header, _ := r.header()
	for atomic.LoadUint32(&header.Status)&unix.TP_STATUS_USER == 0 {
		if err := waitFor(s.fd, unix.POLLIN); err != nil {
			return nil, err
		}
	}
	n := header.Snaplen
	atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
	return one(int(n), nil)
}
