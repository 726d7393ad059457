package packages

import "testing"

func TestWordsAreForPeople(t *testing.T) {
	t.Parallel()
	curl := Owner{Manager: "dpkg", Package: "curl", Version: "7.88.1-10"}
	with := func(c Checksum, working bool) Owner {
		o := curl
		o.Checksum, o.Working = c, working
		return o
	}
	for want, owner := range map[string]Owner{
		"no package owns it": {},
		"no package owns it so far: the package manager is at work":                                             {Working: true},
		"curl 7.88.1-10 owns it and its checksum matches":                                                       with(ChecksumMatch, false),
		"curl 7.88.1-10 owns it, but its checksum does not match the installed package: changed by other means": with(ChecksumMismatch, false),
		"curl 7.88.1-10 owns it, but its checksum does not match yet: the package manager is at work":           with(ChecksumMismatch, true),
		"curl 7.88.1-10 owns it as a configuration file, which was edited":                                      with(ChecksumConffile, false),
		"curl 7.88.1-10 owns it, but dpkg has no checksum of it":                                                with(ChecksumNone, false),
		"curl 7.88.1-10 owns it, but it could not be read to compare its checksum":                              with(ChecksumUnread, false),
		`a\x1b[31m owns it and its checksum matches`:                                                            {Manager: "rpm", Package: "a\x1b[31m", Checksum: ChecksumMatch},
	} {
		if got := owner.Words(); got != want {
			t.Errorf("%+v:\n got %s\nwant %s", owner, got, want)
		}
	}
}
