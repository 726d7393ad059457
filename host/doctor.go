package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/doctor"
	"github.com/picosnitch/picosnitch/host/internal/home"
)

const doctorLong = `Tell whether picosnitch can capture on this machine, what it cannot see, and what is to be done about anything that is wrong:
the kernel, its type information and lockdown, the mounts, privileges, every hook with the way that was found for it (and
the kernel's answer and the verifier's last lines where none was), config.json, plugin files, disks, limits, the daemon.

Nothing is changed: no file is written, and what is loaded to try the hooks counts nothing and is gone at the end. Without
root less can be told, and the report says what. docs/doctor.md describes the object of --json.

The exit code is 0 if all is well or there are only warnings, 5 if picosnitch cannot capture here, 1 if anything else is a
problem. start and start-no-daemon end with 5 and these problems if they cannot capture, and a service manager should not
start them again then (RestartPreventExitStatus=5).`

const doctorExample = `  sudo picosnitch doctor
  sudo picosnitch doctor --json | jq '.findings[] | select(.level != "ok")'
  sudo picosnitch doctor > /dev/null; [ $? -eq 5 ] && echo "cannot capture here"`

// doctorVerb is doctor.
func (c *call) doctorVerb() *cobra.Command {
	var asJSON bool
	verb := &cobra.Command{
		Use: "doctor", Short: "Tell whether picosnitch can work here, and what to do if not", Long: doctorLong, Example: doctorExample,
		RunE: func(cmd *cobra.Command, _ []string) error {
			verdict, err := c.doctor(cmd.Context(), asJSON)
			if err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			if code := verdictCode(verdict); code != exitOK {
				return &exitError{code: code} // the report has said everything
			}
			return nil
		},
	}
	verb.Flags().BoolVar(&asJSON, "json", false, "answer as a JSON object")
	return verb
}

func verdictCode(v doctor.Verdict) int {
	switch v {
	case doctor.CannotCapture:
		return exitNoCapture
	case doctor.WithProblems:
		return exitFailure
	}
	return exitOK
}

// doctor writes the report.
func (c *call) doctor(ctx context.Context, asJSON bool) (doctor.Verdict, error) {
	s, err := c.settings(ctx)
	if errors.Is(err, fs.ErrPermission) { // a directory that this user cannot reach is a finding
		s.Owner = home.Owner{UID: c.uid, GID: uint32(os.Getegid())}
		s.ConfigDir, err = directory("--config-dir", c.flags.configDir, c.getenv("PICOSNITCH_DIR"))
	}
	if err != nil {
		return "", err
	}
	o, err := c.doctorOptions(s)
	if err != nil {
		return "", err
	}
	o.Daemon = func(ctx context.Context) doctor.Daemon { return describeDaemon(ctx, s.RunDir) }
	r := doctor.Judge(doctor.Look(ctx, o))
	if asJSON {
		err = writeJSON(c.out, r)
	} else if err = doctor.WriteText(c.out, r.Findings); err == nil {
		_, err = fmt.Fprintln(c.out, r.Summary())
	}
	return r.Verdict, err
}

func (c *call) doctorOptions(s settings) (doctor.Options, error) {
	program, err := os.Executable()
	if err != nil {
		return doctor.Options{}, fmt.Errorf("find this program: %w", err)
	}
	have, err := effective()
	if err != nil {
		return doctor.Options{}, err
	}
	return doctor.Options{
		Version: version, ConfigDir: s.ConfigDir, StateDir: s.StateDir, Instance: s.Instance, Owner: s.Owner, UID: c.uid,
		Missing: missingCapabilities(have), Program: program, PluginUID: s.UIDs.First,
		FindPlugin: func(name string) (string, bool) { return findPlugin(s.PluginDirs, name) },
		Hooks:      func() ([]capture.Hook, error) { return c.hooks(s.Lacks) },
	}, nil
}

// describeDaemon asks the daemon of a run directory how it does.
func describeDaemon(ctx context.Context, runDir string) doctor.Daemon {
	s, err := findStatus(ctx, runDir)
	if err != nil {
		return doctor.Daemon{Error: oneLine(err.Error())}
	}
	return doctor.Daemon{
		Running: s.Running, PID: s.PID, Version: oneLine(s.Version), Degraded: s.Degraded,
		Messages: append([]string{}, s.Messages...), Held: s.Counters["open files"],
	}
}

// refusal gives an error of capture its exit code. What may pass by itself is left to a service manager's next try.
func refusal(err error) error {
	for _, passing := range []error{unix.ENOMEM, unix.EAGAIN, unix.EBUSY, unix.EINTR, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, passing) {
			return err
		}
	}
	return &exitError{code: exitNoCapture, err: err}
}

// explain says why a daemon that ended with [exitNoCapture] could not capture. Of other errors it says nothing.
func (c *call) explain(ctx context.Context, s settings, err error) {
	if exit := (*exitError)(nil); !errors.As(err, &exit) || exit.code != exitNoCapture {
		return
	}
	o, err := c.doctorOptions(s)
	if err != nil {
		return // the error that is explained is told anyway
	}
	r := doctor.Judge(doctor.Look(context.WithoutCancel(ctx), o))
	_ = doctor.WriteText(c.errs, r.Problems()) // nobody left to tell
}
