package main

import (
	"testing"
	"time"
)

func TestTransfersMoveBytes(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(time.Duration) (speed, error){"bulk": bulk, "datagrams": datagrams} {
		s, err := run(20 * time.Millisecond)
		if err != nil || s.perSecond <= 0 || s.perCPU <= 0 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestRatioIsTheMedianOfTheRounds(t *testing.T) {
	t.Parallel()
	clock := func(s speed) float64 { return s.perSecond }
	without := []speed{{perSecond: 100}, {perSecond: 10}, {perSecond: 50}}
	beside := []speed{{perSecond: 90}, {perSecond: 1000}, {perSecond: 40}}
	if got := ratio(without, beside, clock); got != 0.9 {
		t.Errorf("got %v", got)
	}
}
