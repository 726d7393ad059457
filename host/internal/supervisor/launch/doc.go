// Package launch is what happens between the host and the first instruction of a plugin. The host executes itself with the
// hidden verb [Verb]; that process, alone in new namespaces, builds the small world the plugin may see, gives up every
// privilege, and becomes the plugin by execveat of the file that the host verified.
//
// The order matters: mounts need privileges, so they come first; the parent-death signal is cleared by a change of uid, so
// it is set again afterwards, and then the host is looked for, in case that it died in between.
//
// # Concurrency
//
// Credentials belong to threads. All of the work is done on one locked thread, the one that calls execveat; the others,
// still privileged, end at that call.
package launch
