package store

import (
	"database/sql/driver"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// process interns a process instance with all that belongs to it. A missing process is a row too, an empty one: no
// column of a flow is NULL, and "not equal" means what it says.
func (in *interner) process(p *wire.Process, until int64) (int64, error) {
	var err error
	// Encoded whole, so that no field, also of a later version, is left out of the key.
	if in.buf, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(in.buf[:0], p); err != nil {
		return 0, fmt.Errorf("encode process: %w", err)
	}
	if p == nil {
		in.buf = append(in.buf, "none"...) // no encoded process: a known one with uid 0 is empty too
	}
	return in.id(internProcess, in.key(), until, func(seen int64) ([]driver.Value, error) {
		return in.processColumns(p, seen)
	})
}

// flat gives the columns of a process as they stand in a flow's flat row, by name.
func (in *interner) flat(p *wire.Process) func(name string) driver.Value {
	row := sdk.Row(&wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{Process: p}}}, &wire.Batch{})
	return func(name string) driver.Value { return row[in.columns[name]].Any() }
}

func (in *interner) processColumns(p *wire.Process, seen int64) ([]driver.Value, error) {
	column := in.flat(p)
	executable, err := in.executable(p.GetExecutable(), column, seen)
	if err != nil {
		return nil, err
	}
	values := []driver.Value{executable}
	for _, text := range []struct {
		name string
		of   *wire.Text
	}{
		{"cmdline", p.GetCommandLine()}, {"claimed_cmdline", p.GetClaimedCommandLine()},
		{"cgroup", p.GetCgroup().GetPath()}, {"unit", nil}, {"container", nil}, {"boot_id", nil},
	} {
		value, _ := column(text.name).(string)
		id, err := in.text(value, text.of, seen)
		if err != nil {
			return nil, err
		}
		values = append(values, id)
	}
	for _, name := range []string{"name", "tty", "kernel", "uid", "pid", "inner_pid", "start_time", "exec_id", "euid",
		"gid", "loginuid", "session", "unit_verified", "pid_ns", "mnt_ns"} {
		values = append(values, column(name))
	}
	return values, nil
}

// executable interns the file that was executed. Its hash belongs to the key: one file may have had two contents.
func (in *interner) executable(e *wire.Executable, column func(string) driver.Value, until int64) (int64, error) {
	names := []string{"exe", "sha256", "exe_scope", "hash_status", "script", "package", "superblock", "dev", "inode",
		"ctime", "size"}
	values := make([]driver.Value, len(names))
	in.begin()
	for i, name := range names {
		values[i] = column(name)
		in.part(fmt.Sprint(values[i]))
	}
	in.part(string(e.GetPath().GetSha256())) // of a path that was cut
	return in.id(internExecutable, in.key(), until, func(int64) ([]driver.Value, error) { return values, nil })
}

// resolve writes a hash that arrived late into the executables that wait for it. Their keys are changed: a row that is
// pending again later is another execution, perhaps of other bytes under the same numbers, and gets a row of its own.
func (in *interner) resolve(r *wire.Record) error {
	columns := make(map[string]driver.Value)
	row := sdk.Row(r, &wire.Batch{})
	for i, column := range sdk.ColumnsOf(sdk.KindHashResolved) {
		columns[column.Name] = row[i].Any()
	}
	_, err := in.conn.exec(`UPDATE executables SET sha256 = ?, hash_status = ?, key = randomblob(16), late = 1
WHERE inode = ? AND ctime = ? AND superblock = ? AND dev = ? AND size = ? AND hash_status = ? AND sha256 = ''`,
		columns["sha256"], columns["hash_status"], columns["inode"], columns["ctime"], columns["superblock"],
		columns["dev"], columns["size"], sdk.HashStatusWord(wire.HashStatus_HASH_PENDING))
	in.caches[internExecutable].clear()
	return err
}
