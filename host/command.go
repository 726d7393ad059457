package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os/signal"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// Exit codes. Those of `status --check` begin with 3, as LSB has them.
const (
	exitOK        = 0
	exitFailure   = 1
	exitUsage     = 2
	exitFindings  = 1 // of what checks something
	exitStopped   = 3
	exitDegraded  = 4
	exitNoCapture = 5 // packaging/picosnitch.service knows it
)

// exitError ends the command with a code; without err nothing more is said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// misuse is an error of whoever typed the command.
func misuse(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// call is one call of the command, with the surroundings that tests replace.
type call struct {
	out, errs io.Writer
	getenv    func(string) string
	uid       uint32
	localtime string                                       // link to the local time zone
	hooks     func(lacks []string) ([]capture.Hook, error) // tries them
	flags     flags
	unhook    func() // lets go of SIGHUP; nil when it is not caught
}

// flags are those that every verb takes, or that several do.
type flags struct {
	configDir, stateDir, runDir, instance string

	plugins string // of start and start-no-daemon
}

// run executes one command line and gives the exit code.
func (c *call) run(ctx context.Context, args []string) int {
	root := c.root()
	root.SetArgs(args)
	root.SetOut(c.out)
	root.SetErr(c.errs)
	err := root.ExecuteContext(ctx)
	if c.unhook != nil {
		c.unhook()
	}
	if err == nil {
		return exitOK
	}
	text := err.Error()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	if text != "" {
		fmt.Fprintf(c.errs, "picosnitch: %s\n", oneLine(text))
	}
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return exit.code
	}
	return exitFailure
}

// oneLine makes an error fit for a terminal: one line, nothing that is obeyed.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ReplaceAll(text, "\n", "; "))
}

const rootLong = `picosnitch watches a Linux machine and answers, for every byte that a process sends to or receives from the network:
which executable (by SHA-256), started by whom, as which user, talked to which name and address, when, and how much.

Files that people touch lie in ~/.config/picosnitch, of the user behind sudo: config.json (the configuration), snitch.db
(the history, an SQLite file), exe.log, error.log and record.json. Without root, every verb that only asks works for the
owner of these files and for members of group picosnitch.

Exit codes: 0 success, 1 failure or findings, 2 wrong usage; status --check: 3 stopped, 4 running but degraded; events: 3
the daemon ended; 5 picosnitch cannot capture on this machine (picosnitch doctor tells why).`

const rootExample = `  sudo picosnitch start                     # watch in the background
  picosnitch status                         # does it run?
  picosnitch query --by exe --since 1h      # who used the network in the last hour?
  picosnitch events                         # what is going on now?
  picosnitch help query                     # everything about a verb`

// root is the command with all its verbs.
func (c *call) root() *cobra.Command {
	root := &cobra.Command{
		Use: "picosnitch", Short: "Watch which program talks to whom over the network, and how much",
		Long: rootLong, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs, RunE: c.noVerb, PersistentPreRun: c.endOnHangup,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(flagError)
	p := root.PersistentFlags()
	p.SortFlags = false
	p.StringVar(&c.flags.configDir, "config-dir", "", "`directory` of config.json and the logs (PICOSNITCH_DIR; default ~/.config/picosnitch)")
	p.StringVar(&c.flags.stateDir, "state-dir", "", "`directory` of the journal (PICOSNITCH_STATE; default "+defaultStateDir+")")
	p.StringVar(&c.flags.runDir, "run-dir", "", "`directory` of lock, sockets and pid (PICOSNITCH_RUN_DIR; default "+defaultRunDir+")")
	p.StringVar(&c.flags.instance, "instance", "", "`name` that keeps several daemons apart (PICOSNITCH_INSTANCE; default "+defaultInstance+")")
	root.SetHelpCommand(helpVerb(root))
	for _, verb := range []*cobra.Command{
		c.startVerb(), c.stopVerb(), c.restartVerb(), c.statusVerb(), c.foregroundVerb(),
		c.pluginsVerb(), c.doctorVerb(), c.queryVerb(), c.eventsVerb(), c.dbVerb(), c.verifyVerb(), c.configVerb(),
		c.versionVerb(),
	} {
		strict(verb)
		root.AddCommand(verb)
	}
	return root
}

// strict has a verb, and those below it, refuse arguments that it does not name.
func strict(verb *cobra.Command) {
	if verb.Args == nil {
		verb.Args = noArguments
	}
	verb.Flags().SortFlags = false
	for _, below := range verb.Commands() {
		strict(below)
	}
}

// endOnHangup has a verb end when its terminal goes, but for the daemon, which decides for itself.
func (c *call) endOnHangup(cmd *cobra.Command, _ []string) {
	if cmd.Name() == foregroundName || signal.Ignored(syscall.SIGHUP) {
		return
	}
	ctx, unhook := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	c.unhook = unhook
	cmd.SetContext(ctx)
}

// one has a verb take exactly one argument, called what.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return misuse("%s takes one %s (see %s)", verbPath(cmd), what, help(cmd))
		}
		return nil
	}
}

// verbPath is a verb with those above it, such as "plugins log"; "" is the command itself.
func verbPath(cmd *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()))
}

// help is what explains a verb.
func help(cmd *cobra.Command) string { return strings.TrimSpace("picosnitch help " + verbPath(cmd)) }

// noVerb says which verbs there are.
func (c *call) noVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		fmt.Fprintln(c.errs, cmd.Long+"\n\n"+strings.TrimSuffix(cmd.UsageString(), "\n"))
		return &exitError{code: exitUsage}
	}
	return unknownVerb(cmd, args[0])
}

// unknownVerb says that there is no such verb below another, or below the command itself.
func unknownVerb(above *cobra.Command, name string) error {
	hint := "see " + help(above)
	if like := above.SuggestionsFor(name); len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return misuse("there is no verb %.60q (%s)", strings.TrimSpace(verbPath(above)+" "+name), hint)
}

// flagError says which flag is wrong, and what it wants.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return misuse("%w (see %s)", err, help(cmd))
	}
	flag := invalid.GetFlag()
	return misuse("%s: --%s %.40q: %s (see %s)", verbPath(cmd), flag.Name, invalid.GetValue(), wanted(flag.Value.Type()), help(cmd))
}

// wanted is what a flag of a type of pflag's takes.
func wanted(kind string) string {
	switch kind {
	case "bool":
		return "want true or false, or nothing"
	case "uint32":
		return fmt.Sprintf("want a whole number from 0 to %d", uint32(math.MaxUint32))
	case "duration":
		return "want a time such as 500ms or 5s"
	}
	return "want words separated by commas"
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.HasSubCommands() {
		return unknownVerb(cmd, args[0])
	}
	if len(args) > 0 {
		return misuse("%s takes no argument such as %.40q (see %s)", verbPath(cmd), args[0], help(cmd))
	}
	return nil
}

// helpVerb explains a verb.
func helpVerb(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [verb]", Short: "Explain picosnitch, or one of its verbs",
		Long:    "Explain picosnitch, or with a verb what it does, its flags and examples.",
		Example: "  picosnitch help\n  picosnitch help query",
		RunE: func(_ *cobra.Command, args []string) error {
			verb, rest, err := root.Find(args)
			switch {
			case err != nil:
				return unknownVerb(root, args[0])
			case len(rest) > 0:
				return unknownVerb(verb, rest[0])
			}
			return verb.Help()
		},
	}
}
