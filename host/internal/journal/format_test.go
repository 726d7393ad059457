package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// plainFile turns a closed journal into one of format 1.
func plainFile(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		for _, name := range sealedBuckets() {
			var keys, values [][]byte
			must(t, bucket(tx, name).ForEach(func(k, v []byte) error {
				keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v[:len(v)-sumSize]))
				return nil
			}))
			for i, k := range keys {
				if name == nameCursors {
					values[i] = values[i][:16] // it did not say where a sink began
				}
				must(t, bucket(tx, name).Put(k, values[i]))
			}
		}
		must(t, bucket(tx, nameMeta).Delete([]byte(keyState)))
		return bucket(tx, nameMeta).Put([]byte(keyFormat), []byte{formatPlain})
	}), db.Close())
}

func TestAFileOfFormat1IsConverted(t *testing.T) {
	t.Parallel()
	for name, damaged := range map[string]bool{"sound": false, "damaged": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filled(t, dir)
			j := open(t, dir)
			p := j.previous
			must(t, cursor(t, j, "a").Ack(sdk.Watermark{Epoch: p.epoch, Sequence: 100}))
			appendTo(t, j, nil, Mark{"m", []byte("kept")})
			must(t, cursor(t, j, "a").SetAside(p.epoch, notices(1, "poison"), "odd"))
			must(t, j.Close())
			plainFile(t, path)
			if damaged {
				damagePageOf(t, path, "needle 20 ")
			}
			for range 2 { // converted, and as such
				j = open(t, dir)
				if v, ok := j.Mark("m"); !ok || string(v) != "kept" {
					t.Errorf("the mark is %q", v)
				}
				if aside, err := j.Aside("a"); len(aside) != 1 || err != nil {
					t.Errorf("set aside: %v, %v", aside, err)
				}
				if _, aside := j.Recovered(); aside != damaged {
					t.Errorf("set aside: %v", aside)
				}
				must(t, j.Close())
				damaged = false
			}
			j = open(t, dir)
			if came, gone, _ := account(t, j, cursor(t, j, "a")); came+gone != needles-100 {
				t.Errorf("%d came and %d are said to be lost, want %d together", came, gone, needles-100)
			}
		})
	}
}

func TestAFlippedPlaceOfASinkSkipsNothing(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(b *bolt.Bucket) error{
		"place": func(b *bolt.Bucket) error {
			v := bytes.Clone(b.Get([]byte("a")))
			v[15] ^= 0x40 // 100 becomes 36
			v[14] ^= 1    // and then 292
			return b.Put([]byte("a"), v)
		},
		"name": func(b *bolt.Bucket) error {
			v := bytes.Clone(b.Get([]byte("a")))
			return errors.Join(b.Delete([]byte("a")), b.Put([]byte("c"), v))
		},
		"gone": func(b *bolt.Bucket) error { return b.Delete([]byte("a")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filled(t, dir)
			j := open(t, dir)
			p := j.previous
			must(t, cursor(t, j, "a").Ack(sdk.Watermark{Epoch: p.epoch, Sequence: 100}))
			must(t, j.Close())
			db, err := bolt.Open(path, 0o600, nil)
			must(t, err, db.Update(func(tx *bolt.Tx) error { return harm(bucket(tx, nameCursors)) }), db.Close())
			j = open(t, dir)
			r, aside := j.Recovered()
			if !aside || len(r.Unknown) == 0 {
				t.Errorf("recovered %+v", r)
			}
			if came, gone, _ := account(t, j, cursor(t, j, "a")); came != needles || gone != 0 {
				t.Errorf("%d came again and %d are said to be lost, want all %d", came, gone, needles)
			}
		})
	}
}

func TestALostRootIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filled(t, dir)
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	must(t, err)
	newest, whole := newestMeta(bytes.NewReader(data))
	if whole != 2 {
		t.Fatalf("%d roots", whole)
	}
	data[4096*(newest.transaction%2)+20] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	j := open(t, dir)
	if r, aside := j.Recovered(); !aside || len(r.Unknown) == 0 {
		t.Errorf("recovered %+v", r)
	}
	texts, gaps := readAll(t, cursor(t, j, "a"))
	if len(texts) != needles || len(gaps) != 1 || gaps[0].Events != 0 || gaps[0].First != needles+1 || gaps[0].Cause != CauseUnknown.String() {
		t.Errorf("%d records and the gaps %v", len(texts), gaps)
	}
}
