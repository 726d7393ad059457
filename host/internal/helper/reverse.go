package helper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

// MaxReverse is how many addresses one call of [Pool.Reverse] may name.
const MaxReverse = 32

const (
	reverseAtOnce = 8               // questions of one helper
	reverseTime   = 5 * time.Second // for one of them
	reverseNames  = 4               // that are told of one address; all of them fit into a reply
	reverseName   = 254             // bytes of a name that can be one, with its final dot

	misbehaves = "server misbehaving" // are package net's words for a server that answers, but cannot find out
)

// ReverseAnswer is what one address is called.
type ReverseAnswer struct {
	Names    []string `json:"names,omitempty"`    // by whoever owns the address, or /etc/hosts
	Error    string   `json:"error,omitempty"`    // in words, why it is not known; without names or this it has no name
	Answered bool     `json:"answered,omitempty"` // somebody did, if only to say that he does not know
}

// reverseOrder is a question to whom Server is, or to those of /etc/resolv.conf.
type reverseOrder struct {
	Addresses []netip.Addr   `json:"addresses"`
	Server    netip.AddrPort `json:"server"`
}

// Reverse asks this machine's resolver what addresses are called, and gives an answer for each, in their order. It is asked
// with the rights that package databases are read with. It waits as Hash does.
func (p *Pool) Reverse(ctx context.Context, addresses []netip.Addr) ([]ReverseAnswer, error) {
	if len(addresses) == 0 || len(addresses) > MaxReverse {
		return nil, fmt.Errorf("look up %d addresses, at most %d: %w", len(addresses), MaxReverse, fs.ErrInvalid)
	}
	o := order{
		UID: p.options.PackagesUID, GID: p.options.PackagesGID,
		Reverse: &reverseOrder{Addresses: addresses, Server: p.options.Resolver},
	}
	answer, err := p.ask(ctx, o, nil)
	if err == nil && len(answer.Reverse) != len(addresses) {
		err = fmt.Errorf("%w: %s", answer.Problem.err(), sdk.EscapeString(answer.Error))
	}
	if err != nil {
		return nil, fmt.Errorf("look up addresses: %w", err)
	}
	return answer.Reverse, nil
}

func (o *reverseOrder) answer() reply {
	resolver := &net.Resolver{PreferGo: true}
	if o.Server.IsValid() {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, o.Server.String())
		}
	}
	answers := make([]ReverseAnswer, len(o.Addresses))
	var asking sync.WaitGroup
	turn := make(chan struct{}, reverseAtOnce)
	for i, address := range o.Addresses {
		turn <- struct{}{}
		asking.Go(func() {
			answers[i] = lookUp(resolver, address)
			<-turn
		})
	}
	asking.Wait()
	return reply{Reverse: answers}
}

func lookUp(resolver *net.Resolver, address netip.Addr) ReverseAnswer {
	ctx, cancel := context.WithTimeout(context.Background(), reverseTime)
	defer cancel()
	names, err := resolver.LookupAddr(ctx, address.String())
	var problem *net.DNSError
	switch {
	case len(names) > 0: // with an error, some others were no names
	case errors.As(err, &problem) && problem.IsNotFound:
		return ReverseAnswer{Answered: true}
	case err != nil:
		words := err.Error()
		return ReverseAnswer{
			Error: words[:min(len(words), maxSaid/2)], Answered: problem != nil && problem.Err == misbehaves,
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return len(name) > reverseName })
	slices.Sort(names) // servers turn them round, so that others would be left out each time
	return ReverseAnswer{Names: names[:min(len(names), reverseNames)], Answered: true}
}
