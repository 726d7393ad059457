// Package packages answers which package owns a file, and whether the file is the one that the package brought.
//
// The databases of dpkg, pacman and rpm are read where they lie, offline: those of dpkg and pacman by parsers of our own, that
// of rpm (Berkeley DB, ndb or sqlite, by version) by the rpm program, since the host links no database driver. Only the
// host's own databases count: a directory, file or program that somebody but root could have written is refused.
//
// The answer is as good as the databases. Whoever is root can change both them and the file, and dpkg keeps nothing better
// than MD5: for a file that was made for the purpose, a match there proves nothing. It tells an upgrade from a change by other
// means, not an honest root from a dishonest one.
//
// The databases are text that packages' authors wrote. It is parsed in a process without rights (package helper), never by
// root; all reads are bounded.
//
// # Concurrency
//
// There is no state: [Find] may be called by many goroutines.
package packages
