// Package home answers one question: how does root touch a directory that its adversary owns? ~/.config/picosnitch belongs
// to a user who may replace any name in it by a link, a pipe or a device, at any moment. [Find] says whose home it is;
// [Dir] reads and writes in it with that user's rights, so that nothing is opened that he could not open himself; [As] is
// for what a Dir cannot do.
//
// Names are single path elements, looked up below a directory descriptor and never through a symbolic link; files are
// regular, have one name and a bounded size. Nothing is ever chowned: what a Dir makes belongs to the user because it is
// made as the user. Errors hold names, never contents.
//
// # Concurrency
//
// Linux keeps fsuid, fsgid and supplementary groups per thread. A Dir owns one goroutine, locked to a thread that has the
// user's and that ends with it; every access is a request to that goroutine. Methods may be called from any goroutine.
// A file system that hangs (FUSE, NFS) holds up that thread alone: callers get [ErrStuck] after ten seconds, and at once
// while it lasts.
package home
