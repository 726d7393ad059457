// Package peers answers one question: whom may a plugin talk to? A plugin that was granted a list of host:port, instead of
// the whole network, lives in the host's network behind programs on its control group (v2), which decide about every
// address that it connects or sends to. They are attached before the plugin's first instruction and stay until the group
// is gone; nothing that the plugin can do takes it out of its group.
//
// The plugin gets TCP and UDP sockets only, to the addresses that are allowed; it can bind no port, and what arrives at a
// socket that listens all the same is dropped. Names are looked up by the host, again and again, and are told to the plugin
// in a hosts file: it needs no name server, and cannot use questions to one to carry data away.
//
// # Concurrency
//
// A Filter's Allow may be called while the programs run; the methods of one Filter or Book by one goroutine at a time.
package peers
