package packages

import (
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// merged are the directories that distributions have replaced by links. Databases name files by the old place, the new one,
// or either, depending on when the package was made; the kernel names them by the new one.
func merged() []string {
	return []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr/sbin", "/usr/lib64"}
}

// maxAliases bounds the names of one file; links that lead to each other end there.
const maxAliases = 16

// aliases gives all the names that a database may have for the file at path, path first.
func aliases(root, path string) []string {
	links := map[string]string{}
	for _, dir := range merged() {
		if target, ok := linkTarget(root, dir); ok {
			links[dir] = target
		}
	}
	names := []string{path}
	for i := 0; i < len(names) && len(names) < maxAliases; i++ { // /sbin may lead to /usr/sbin, which leads to /usr/bin
		for dir, target := range links {
			names = addName(names, names[i], dir, target)
			names = addName(names, names[i], target, dir)
		}
	}
	return names
}

// addName adds name with the directory from replaced by to, if it is in from.
func addName(names []string, name, from, to string) []string {
	rest, inside := strings.CutPrefix(name, from+"/")
	if !inside {
		return names
	}
	other := to + "/" + rest
	if slices.Contains(names, other) {
		return names
	}
	return append(names, other)
}

// linkTarget is where dir, a link, leads to. A link to nowhere inside the system counts as none.
func linkTarget(root, dir string) (string, bool) {
	buffer := make([]byte, 256)
	n, err := unix.Readlink(filepath.Join(root, dir), buffer)
	if err != nil || n == len(buffer) {
		return "", false
	}
	target := string(buffer[:n])
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(dir), target)
	}
	target = filepath.Clean(target)
	return target, target != "/" && target != dir
}
