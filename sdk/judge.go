package sdk

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxLocate is how many addresses one question may hold.
const maxLocate = 1024

// verdictsServer is the gRPC service of what judges files.
type verdictsServer struct {
	wire.UnimplementedVerdictsServer
	trunk    *server
	verdicts Verdicts
}

func (s *verdictsServer) Judge(ctx context.Context, r *wire.JudgeRequest) (*wire.JudgeResponse, error) {
	ctx, leave, err := s.trunk.life.enter(ctx, "judge", false)
	if err != nil {
		return nil, err
	}
	defer leave()
	if n := len(r.GetSha256()); n != 32 {
		return nil, status.Errorf(codes.InvalidArgument, "judge: sha256: %d bytes, want 32", n)
	}
	answer, err := s.verdicts.Judge(ctx, r)
	if err != nil {
		return nil, callError("judge", err)
	}
	if answer == nil || answer.GetVerdict() == nil && answer.GetRetryAfter() <= 0 && answer.GetReason() == "" {
		return nil, status.Error(codes.Internal, "judge: the plugin gave neither a verdict nor a reason")
	}
	return judged(r, answer), nil
}

// judged completes an answer and makes it fit to travel. The plugin's own message is left as it is: it may keep it.
func judged(r *wire.JudgeRequest, answer *wire.JudgeResponse) *wire.JudgeResponse {
	out := &wire.JudgeResponse{RetryAfter: max(0, answer.GetRetryAfter()), Reason: clip(answer.GetReason())}
	if v := answer.GetVerdict(); v != nil {
		out.Verdict = &wire.Verdict{Time: v.GetTime(), Sha256: r.GetSha256(), Source: clip(v.GetSource()),
			Suspicious: v.GetSuspicious(), Text: clip(v.GetText())}
	}
	return out
}

// locatorServer is the gRPC service of what knows where addresses lie.
type locatorServer struct {
	wire.UnimplementedLocatorServer
	trunk   *server
	locator Locator
}

func (s *locatorServer) Locate(ctx context.Context, r *wire.LocateRequest) (*wire.LocateResponse, error) {
	ctx, leave, err := s.trunk.life.enter(ctx, "locate", false)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := checkAddresses(r.GetIps()); err != nil {
		return nil, status.Error(codes.InvalidArgument, "locate: "+err.Error())
	}
	locations, err := s.locator.Locate(ctx, r.GetIps())
	if err != nil {
		return nil, callError("locate", err)
	}
	if len(locations) != len(r.GetIps()) {
		return nil, status.Errorf(codes.Internal, "locate: the plugin gave %d locations for %d addresses",
			len(locations), len(r.GetIps()))
	}
	answer := &wire.LocateResponse{Locations: make([]*wire.Location, len(locations))}
	for i, l := range locations { // nil is an unknown one
		answer.Locations[i] = &wire.Location{Country: clip(l.GetCountry()), CountryName: clip(l.GetCountryName()),
			Asn: l.GetAsn(), Organization: clip(l.GetOrganization())}
	}
	return answer, nil
}

func checkAddresses(ips [][]byte) error {
	if len(ips) > maxLocate {
		return fmt.Errorf("%d addresses, at most %d", len(ips), maxLocate)
	}
	for i, ip := range ips {
		if len(ip) != 4 && len(ip) != 16 {
			return fmt.Errorf("address %d has %d bytes, want 4 or 16", i, len(ip))
		}
	}
	return nil
}
