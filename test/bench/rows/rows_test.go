package rows

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

func TestTheSameSeedMakesTheSameRows(t *testing.T) {
	t.Parallel()
	a, b := New(1, time.Unix(0, 0), 40), New(1, time.Unix(0, 0), 40)
	c := New(2, time.Unix(0, 0), 40)
	same := true
	for range 500 {
		x, y := a.Flow(), b.Flow()
		if !proto.Equal(x, y) {
			t.Fatalf("got %v and %v", x, y)
		}
		same = same && proto.Equal(x, c.Flow())
	}
	if same {
		t.Error("another seed makes the same rows")
	}
}

func TestMostRowsOfAWindowRepeatTheLastHour(t *testing.T) {
	t.Parallel()
	g := New(1, time.Unix(0, 0), 40)
	last := make(map[string]time.Time)
	repeated, total := 0, 0
	for range 40 * 720 { // two hours
		f := g.Flow()
		who := string(f.GetProcess().GetCommandLine().GetValue()) + string(f.GetRemote().GetIp())
		if at, ok := last[who]; ok && g.End().Sub(at) <= time.Hour+Window {
			repeated++
		}
		last[who] = g.End()
		total++
	}
	// 70 % are drawn from the hour, and some of the others meet one of it by chance.
	if part := float64(repeated) / float64(total); part < 0.68 || part > 0.95 {
		t.Errorf("%.0f %% of the rows repeat the last hour", part*100)
	}
}
