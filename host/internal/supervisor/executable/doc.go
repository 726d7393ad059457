// Package executable answers one question: may this file be run as a plugin? It opens the file once, checks the open file
// and every directory above it, hashes it, and hands out the very descriptor that is executed later, so that nothing can
// be exchanged between check and start.
//
// Trusted is what belongs to root. A plugin that lies beside the host binary may also belong to the owner of that binary:
// who can replace the host needs no plugin. Nothing on the way may be writable by group or others, nor be a symbolic link.
package executable
