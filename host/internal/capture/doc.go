// Package capture answers what the kernel saw: which process instances there were, and how many bytes each of them
// exchanged over which socket with which peer. It owns the BPF programs of bpf/, their pins and their maps, and counts
// what any of them lost.
//
// The programs add up in maps of the kernel; [Kernel] drains them once a window. Programs and maps are pinned: a host
// that is killed leaves them counting, and the next one takes over where the journal says that it stopped.
package capture
