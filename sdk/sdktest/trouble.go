package sdktest

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// anyMoment kills the plugin later and later while it applies a batch: before it began, in the middle, between commit and
// answer, after it.
func anyMoment(s *sinkTest) {
	p, _ := s.start()
	began := time.Now()
	p.store(s.next(Records(0, 500)))
	usual := time.Since(began)
	const rounds = 8
	for i := range rounds {
		p = s.interrupt(p, s.next(Records(uint64(i), 500)), usual*time.Duration(2*i)/rounds)
	}
	s.complete(p)
}

// impatient gives up waiting for an answer, sooner and later, and delivers again.
func impatient(s *sinkTest) {
	p, _ := s.start()
	for _, patience := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		batch := s.next(Records(uint64(patience), 300))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, _ = p.Sink.Apply(ctx, request(s.t, batch)) // any answer will do
		cancel()
		p.store(batch)
	}
	p, _ = s.restart(p)
	s.complete(p)
}

// longest delivers records of which each text has its greatest length, and a batch of nearly the greatest size.
func longest(s *sinkTest) {
	p, _ := s.start()
	var records []*wire.Record
	for size, i := 0, 0; ; i++ {
		r := longRecord(i)
		if size += proto.Size(r) + 16; size > wire.MaxBatchBytes-256 {
			break
		}
		records = append(records, r)
	}
	batch := s.next(records)
	if size := proto.Size(batch); size > wire.MaxBatchBytes || size < wire.MaxBatchBytes*9/10 {
		s.t.Fatalf("the suite's own batch has %d bytes", size)
	}
	p.store(batch)
	s.complete(p)
}

// longRecord is a flow whose texts have the greatest length, and numbers the greatest value.
func longRecord(i int) *wire.Record {
	long := func(most int) *wire.Text {
		value := make([]byte, most)
		for at := range value {
			value[at] = byte(at*7 + i)
		}
		return &wire.Text{Value: value, Truncated: true, Length: 1 << 31, Sha256: make([]byte, 32)}
	}
	f := Records(uint64(i), 1)[0].GetFlow()
	f.Process = &wire.Process{
		Id:   &wire.ProcessId{BootId: make([]byte, 16), Tgid: 1<<32 - 1, StartBoot: 1<<63 - 1, ExecId: 1<<32 - 1},
		Name: long(wire.MaxName), CommandLine: long(wire.MaxCommandLine), ClaimedCommandLine: long(wire.MaxCommandLine),
		Executable: &wire.Executable{Path: long(wire.MaxPath), Script: long(wire.MaxPath), Superblock: 1<<64 - 1, Inode: 1<<64 - 1,
			Device: 1<<64 - 1, Size: 1<<64 - 1, Ctime: -1 << 63},
		Cgroup: &wire.Cgroup{Id: 1<<64 - 1, Path: long(wire.MaxCgroup)},
	}
	f.Parent, f.Grandparent = f.Process, nil
	f.Domain = &wire.Domain{Name: long(wire.MaxDomain)}
	f.Socket = 1<<64 - 1
	return &wire.Record{Kind: &wire.Record_Flow{Flow: f}}
}

// readOnly configures a plugin that has stored something to answer questions only.
func readOnly(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 30)))
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := p.Plugin.Drain(ctx, &wire.DrainRequest{}); err != nil {
		s.t.Fatalf("drain: %v", err)
	}
	p.kill()
	before, err := tree(s.directory)
	if err != nil {
		s.t.Fatal(err)
	}
	p = start(s.t, s.Options)
	answer, err := p.Plugin.Configure(ctx, &wire.ConfigureRequest{
		HostId: s.stream.Host[:], BootId: make([]byte, 16), Epoch: s.stream.Epoch[:], Config: s.Config, Directory: s.directory, ReadOnly: true,
	})
	if err != nil || len(answer.GetWatermarks()) != 0 {
		s.t.Fatalf("configure read-only: watermarks %v, %v; want none, since it takes no batches", answer.GetWatermarks(), err)
	}
	if code := p.refused(NewStream(7).Next(Records(1, 1))); code != codes.FailedPrecondition {
		s.t.Errorf("apply: %v, want %v", code, codes.FailedPrecondition)
	}
	s.complete(p)
	if _, err := p.Plugin.Drain(ctx, &wire.DrainRequest{}); err != nil {
		s.t.Errorf("drain: %v", err)
	}
	p.kill()
	after, err := tree(s.directory)
	if err != nil {
		s.t.Fatal(err)
	}
	// New files are not looked at: a database's engine may need some to read the old ones.
	for path, hash := range before {
		if after[path] != hash {
			s.t.Errorf("%s was changed", path)
		}
	}
}
