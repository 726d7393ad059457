package packages

import (
	"fmt"

	"github.com/picosnitch/picosnitch/sdk"
)

// Checksum says how a file compares with what its package brought.
type Checksum string

// The results of a comparison.
const (
	ChecksumMatch    Checksum = "match"
	ChecksumMismatch Checksum = "mismatch"
	ChecksumConffile Checksum = "conffile" // differs, but is a configuration file, which people are expected to edit
	ChecksumNone     Checksum = "none"     // the database has no checksum of this file
	ChecksumUnread   Checksum = "unread"   // the file could not be read, or not as a whole
)

// Owner is the package that a file belongs to. Its texts are bytes as the database has them; Manager is "" if no package
// owns the file.
type Owner struct {
	Manager   string   `json:"manager,omitempty"` // dpkg, pacman or rpm
	Package   string   `json:"package,omitempty"` // with ":arch" where dpkg needs it to tell two apart
	Version   string   `json:"version,omitempty"` // with epoch and release
	Path      string   `json:"path,omitempty"`    // as the database has it: /bin/x for /usr/bin/x on a merged system
	Checksum  Checksum `json:"checksum,omitempty"`
	Algorithm string   `json:"algorithm,omitempty"` // md5, sha1, sha256, sha384, sha512; "" with ChecksumNone
	// SHA256 is of the bytes that were compared, nil if none were. If it is not the hash of what was executed, the file has
	// been replaced since, and Checksum says nothing about what was executed.
	SHA256 []byte `json:"sha256,omitempty"`
	// Working says that the package manager was at work: file and database may be of different versions for a moment, so
	// that a mismatch means nothing until it is asked again.
	Working bool `json:"working,omitempty"`
}

// Owned tells whether a package owns the file.
func (o Owner) Owned() bool { return o.Manager != "" }

// Words says it as part of a sentence for people, with odd bytes escaped: "curl 7.88.1-10 owns it and its checksum matches".
func (o Owner) Words() string {
	if !o.Owned() {
		if o.Working {
			return "no package owns it so far: the package manager is at work"
		}
		return "no package owns it"
	}
	who := sdk.EscapeString(o.Package)
	if o.Version != "" {
		who += " " + sdk.EscapeString(o.Version)
	}
	switch o.Checksum {
	case ChecksumMatch:
		return who + " owns it and its checksum matches"
	case ChecksumMismatch:
		if o.Working {
			return who + " owns it, but its checksum does not match yet: the package manager is at work"
		}
		return who + " owns it, but its checksum does not match the installed package: changed by other means"
	case ChecksumConffile:
		return who + " owns it as a configuration file, which was edited"
	case ChecksumUnread:
		return who + " owns it, but it could not be read to compare its checksum"
	default:
		return fmt.Sprintf("%s owns it, but %s has no checksum of it", who, o.Manager)
	}
}
