package packages

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxMtreeLine bounds a line: a path of 4,096 bytes of which each is escaped, and the values.
const maxMtreeLine = 4*maxPath + 4096

// mtreeSum finds the best checksum of a file in an mtree(5) listing as pacman keeps it: a line for each file, "./path"
// followed by key=value. "" for none.
func mtreeSum(listing io.Reader, path string) (algorithm, sum string, err error) {
	lines := bufio.NewScanner(listing)
	lines.Buffer(make([]byte, 0, maxMtreeLine), maxMtreeLine)
	for lines.Scan() {
		name, values, _ := strings.Cut(lines.Text(), " ")
		name, isFile := strings.CutPrefix(name, "./")
		if isFile && unescapeMtree(name) == path {
			algorithm, sum = sumOf(values)
			return algorithm, sum, nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", "", fmt.Errorf("read listing: %w", err)
	}
	return "", "", nil
}

// sumOf takes the strongest checksum of a line's values.
func sumOf(values string) (algorithm, sum string) {
	best := 0
	for value := range strings.FieldsSeq(values) {
		key, hex, _ := strings.Cut(value, "=")
		name, strength := "", 0
		switch key {
		case "md5", "md5digest":
			name, strength = "md5", 1
		case "sha1", "sha1digest":
			name, strength = "sha1", 2
		case "sha256", "sha256digest":
			name, strength = "sha256", 3
		case "sha384", "sha384digest":
			name, strength = "sha384", 4
		case "sha512", "sha512digest":
			name, strength = "sha512", 5
		}
		if strength > best {
			best, algorithm, sum = strength, name, lowerHex([]byte(hex))
		}
	}
	return algorithm, sum
}

// unescapeMtree undoes "\ooo", three octal digits, the one escape that libarchive writes.
func unescapeMtree(name string) string {
	if !strings.Contains(name, `\`) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+3 < len(name) && octal(name[i+1]) && octal(name[i+2]) && octal(name[i+3]) {
			b.WriteByte((name[i+1]-'0')<<6 | (name[i+2]-'0')<<3 | (name[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
