package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// right is something that may be asked. Status without names is for everybody, and none.
type right uint

const (
	mayStatus      right = 1 << iota // Status with what is wrong, in words
	mayPlugins                       // Plugins
	mayQuery                         // Query
	mayWatch                         // Watch
	mayLocate                        // Locate
	mayControl                       // Control, PluginLog
	mayKeep                          // Export, Import, Check, Compact, Evidence
	mayExecutables                   // OpenExecutable

	everything = mayStatus | mayPlugins | mayQuery | mayWatch | mayLocate | mayControl | mayKeep // a person
)

// Grants is what is known of a plugin that asks.
type Grants struct {
	Kinds       []string // as it described itself
	Executables bool     // the configuration grants it the contents of executables
}

// rights is the whole rule for plugins. A sink or a locator asks for nothing: what it is to know comes to it. An
// interface may see what a person may, and change nothing. A plugin that judges may read executables if the configuration
// says so.
func (g Grants) rights() right {
	var r right
	for _, kind := range g.Kinds {
		switch kind {
		case "ui":
			r |= mayStatus | mayPlugins | mayQuery | mayWatch | mayLocate
		case "verdicts":
			if g.Executables {
				r |= mayExecutables
			}
		}
	}
	return r
}

// asker tells who a call comes from.
type asker interface {
	rights(ctx context.Context) right
	// refusal is the answer to who has no right; what says which ("history is shown").
	refusal(ctx context.Context, what string) error
	// trusted names those who get every answer.
	trusted() string
}

// pluginAsker is the one plugin that a socket belongs to.
type pluginAsker struct {
	name   string
	grants func() Grants
}

func (p pluginAsker) rights(context.Context) right { return p.grants().rights() }

func (p pluginAsker) refusal(context.Context, string) error {
	return status.Errorf(codes.PermissionDenied, "plugin %s may not ask this: an interface (kind ui) may ask for status, plugins, "+
		"history, the live feed and locations, one that judges (kind verdicts) for executables if it is granted them", p.name)
}

func (pluginAsker) trusted() string { return "plugins of kind ui" }
