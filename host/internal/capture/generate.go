package capture

//go:generate go tool bpf2go -target bpfel -cc clang-14 -strip llvm-strip-14 -go-package capture -type process_key -type flow_key -type flow -type owner -type process -type texts -type event -type control -type loss -type call -type payload -type lookup -type file_key -type loss_cause -type peer_kind -type flow_flag -type process_flag -type uncounted -type event_kind kernel ../../../bpf/monitor.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu
