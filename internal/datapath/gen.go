// Package datapath loads, attaches, pins and reads the BPF data plane in bpf/.
// It is the only importer of cilium/ebpf.
package datapath

//go:generate go tool bpf2go -go-package datapath -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type service_key -type service -type policy -type timeouts -type source_prefix -type source_rule -type client_bucket -type affinity_bucket -type affinity -type service_rate -type backend_key -type backend_flags -type table_chunk -type backend -type snat_address -type next_hop -type flow -type flow_flags -type flow_phase -type flow_prefixes -type addr_prefix -type flow_ends -type bucket -type bucket_slots -type hash_keys -type settings -type address_filter -type backend_counters -type test_input -type decision -type service_name -type backend_name -type reason -type verdict -type service_flags -type forward_mode -type service_block -type near_client -type addr -type tuple -type flow_count -type quic_layout -type quic_server -type vip_answers -type tunnel_end -type path_mtu -type frame_store -type datagram -type datagram_state -type backend_policy lb ../../bpf/lb.bpf.c

//go:generate go tool bpf2go -go-package datapath -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" sweep ../../bpf/sweep.bpf.c

//go:generate go tool bpf2go -go-package datapath -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type emitted_frame emit ../../bpf/emit.bpf.c
