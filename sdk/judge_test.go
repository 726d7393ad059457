package sdk

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

type judge struct {
	Base
	answer *wire.JudgeResponse
	err    error
}

func (*judge) Describe() Description { return Description{Name: "judge", Version: "1"} }

func (j *judge) Judge(context.Context, *wire.JudgeRequest) (*wire.JudgeResponse, error) {
	return j.answer, j.err
}

func TestAVerdictIsAboutTheFileAskedFor(t *testing.T) {
	t.Parallel()
	hash := append(make([]byte, 31), 7)
	for name, test := range map[string]struct {
		plugin judge
		ask    []byte
		code   codes.Code
		want   *wire.JudgeResponse
	}{
		"verdict": {judge{answer: &wire.JudgeResponse{Verdict: &wire.Verdict{Source: "s\xff", Suspicious: true, Text: "3 of 60"}}}, hash, codes.OK,
			&wire.JudgeResponse{Verdict: &wire.Verdict{Sha256: hash, Source: "s\ufffd", Suspicious: true, Text: "3 of 60"}}},
		"later":      {judge{answer: &wire.JudgeResponse{RetryAfter: 5, Reason: "busy"}}, hash, codes.OK, &wire.JudgeResponse{RetryAfter: 5, Reason: "busy"}},
		"nothing":    {judge{}, hash, codes.Internal, nil},
		"no reason":  {judge{answer: &wire.JudgeResponse{}}, hash, codes.Internal, nil},
		"no hash":    {judge{}, hash[:5], codes.InvalidArgument, nil},
		"error":      {judge{err: errors.New("odd")}, hash, codes.Unknown, nil},
		"downstream": {judge{err: &Retry{After: time.Second, Err: errors.New("away")}}, hash, codes.Aborted, nil},
	} {
		c, _ := ready(t, &test.plugin)
		got, err := c.Verdicts.Judge(t.Context(), &wire.JudgeRequest{Sha256: test.ask})
		want(t, err, test.code, "")
		if test.code == codes.OK && !proto.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	c, _ := connect(t, &judge{})
	_, err := c.Verdicts.Judge(t.Context(), &wire.JudgeRequest{Sha256: hash})
	want(t, err, codes.FailedPrecondition, "not configured")
}

type locator struct {
	Base
	locations []*wire.Location
	err       error
}

func (*locator) Describe() Description { return Description{Name: "locator", Version: "1"} }

func (l *locator) Locate(context.Context, [][]byte) ([]*wire.Location, error) {
	return l.locations, l.err
}

func TestEveryAddressGetsItsLocation(t *testing.T) {
	t.Parallel()
	c, _ := ready(t, &locator{locations: []*wire.Location{{Country: "AT", Organization: "\xff"}, nil}})
	four, sixteen := make([]byte, 4), make([]byte, 16)
	got, err := c.Locator.Locate(t.Context(), &wire.LocateRequest{Ips: [][]byte{four, sixteen}})
	if err != nil || len(got.GetLocations()) != 2 || got.Locations[0].Country != "AT" || got.Locations[0].Organization != "\ufffd" || got.Locations[1].Country != "" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, test := range []struct {
		ips   [][]byte
		code  codes.Code
		words string
	}{
		{[][]byte{four}, codes.Internal, "2 locations for 1 addresses"},
		{[][]byte{four, {1, 2, 3}}, codes.InvalidArgument, "address 1 has 3 bytes"},
		{make([][]byte, maxLocate+1), codes.InvalidArgument, "at most 1024"},
	} {
		_, err := c.Locator.Locate(t.Context(), &wire.LocateRequest{Ips: test.ips})
		want(t, err, test.code, test.words)
	}
	c, _ = ready(t, &locator{err: errors.New("odd")})
	_, err = c.Locator.Locate(t.Context(), &wire.LocateRequest{})
	want(t, err, codes.Unknown, "odd")
}
