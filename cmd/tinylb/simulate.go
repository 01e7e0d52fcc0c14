package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/daemon"
	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/simulate"
)

type simulateFlags struct {
	config, out, nextHop, nextHopVLAN, outInterface, output string
	mtu                                                     int
}

func newSimulateCommand(env env) *cobra.Command {
	var flags simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate IN.pcap",
		Short: "Show what the data plane would do with the packets of a capture",
		Long: `Run every packet of a capture, in order, through the real programs in the
kernel, and print what becomes of each. No interface, route or neighbour of the
host is touched. Time is the capture's, and the same input gives the same
output.

All frames arrive at one interface and leave with its MAC (the arriving
frame's destination) as source. The next hop of every backend is
02:00:00:00:00:01, by the same interface (verdict TX), unless the flags say
otherwise. Both interfaces have an MTU of 1500, and what arrives with more than
that counts as put together by the kernel. Unless the config names one, the SNAT address and the outer source
of ipip and gue is the VIP where the backend is of the same family, else
192.0.2.1 or 2001:db8::1.`,
		Example: "  tinylb simulate -c web.yaml in.pcap -w out.pcap\n  tinylb simulate -c web.yaml in.pcap -o json",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("expected one capture file, found %d; see: tinylb simulate --help", len(args))
			}
			return runSimulate(env, flags, args[0])
		},
	}
	configFlag(cmd, &flags.config)
	outputFlag(cmd, &flags.output)
	cmd.Flags().StringVarP(&flags.out, "write", "w", "", "write the frames that leave to this pcap file")
	cmd.Flags().StringVar(&flags.nextHop, "next-hop-mac", "", "MAC of the next hop toward every backend (default 02:00:00:00:00:01)")
	cmd.Flags().StringVar(&flags.nextHopVLAN, "next-hop-vlan", "", "VLAN of the next hop toward every backend, 0 for none (default: tags stay as they came)")
	cmd.Flags().StringVar(&flags.outInterface, "out-interface", "", "name of another interface that packets to backends leave by (verdict REDIRECT)")
	cmd.Flags().IntVar(&flags.mtu, "mtu", simulate.DefaultMTU, "MTU of the interfaces, in bytes of IP packet")
	return cmd
}

func runSimulate(env env, flags simulateFlags, in string) error {
	opts, err := flags.options()
	if err != nil {
		return err
	}
	cfg, warnings, err := config.Load(flags.config, config.Options{})
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		fmt.Fprintln(env.stderr, warning)
	}
	if sameFile(in, flags.out) {
		return fmt.Errorf("--write %s would overwrite the capture that is read: name another file", flags.out)
	}
	capture, err := readCapture(in)
	if err != nil {
		return err
	}
	if err := daemon.CheckHost(); err != nil {
		return hostErr(err)
	}
	opts.InterfaceMAC = simulate.InterfaceMAC(capture)
	s, err := simulate.New(cfg, opts)
	if err != nil {
		return hostErr(err)
	}
	defer s.Close()
	out := bufio.NewWriter(env.stdout)
	emit, flush := stepPrinter(out, flags.output)
	left, err := s.RunAll(capture, emit)
	if err := errors.Join(flush(), out.Flush()); err != nil {
		return err
	}
	if errors.Is(err, datapath.ErrFrame) {
		return err
	}
	if err != nil {
		return hostErr(err)
	}
	if flags.out == "" {
		return nil
	}
	return writeCapture(flags.out, left)
}

func (f simulateFlags) options() (simulate.Options, error) {
	opts := simulate.Options{OutInterface: f.outInterface != "", MTU: f.mtu}
	if f.mtu < lb.LeastMTU || f.mtu > lb.MostMTU {
		return opts, fmt.Errorf("--mtu %d: expected a number from %d to %d", f.mtu, lb.LeastMTU, lb.MostMTU)
	}
	if f.nextHop != "" {
		mac, err := net.ParseMAC(f.nextHop)
		if err != nil || len(mac) != len(opts.NextHopMAC) || !unicast(mac) {
			return opts, fmt.Errorf("--next-hop-mac %q: expected one machine's Ethernet address, such as 02:00:00:00:00:01", f.nextHop)
		}
		opts.NextHopMAC = lb.MAC(mac)
	}
	if f.nextHopVLAN != "" {
		id, err := strconv.ParseUint(f.nextHopVLAN, 10, 16)
		if err != nil || id > lb.MaxVLAN {
			return opts, fmt.Errorf("--next-hop-vlan %q: expected a VLAN id from 1 to %d, or 0 for frames without a tag", f.nextHopVLAN, lb.MaxVLAN)
		}
		vlan := uint16(id)
		opts.NextHopVLAN = &vlan
	}
	return opts, nil
}

// unicast reports whether an Ethernet address is neither zero nor that of a group.
func unicast(mac net.HardwareAddr) bool {
	return mac[0]&1 == 0 && !bytes.Equal(mac, make([]byte, len(mac)))
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func readCapture(path string) (packet.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return packet.File{}, err
	}
	defer file.Close()
	capture, err := packet.ReadCapture(file)
	if err != nil {
		return capture, fmt.Errorf("%s: %w", path, err)
	}
	return capture, nil
}

func writeCapture(path string, capture packet.File) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create the output: %w", err)
	}
	buffered := bufio.NewWriter(file)
	if err := errors.Join(packet.WriteCapture(buffered, capture), buffered.Flush(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// stepPrinter prints each step as a JSON line, or all in an aligned table.
func stepPrinter(out io.Writer, format string) (emit func(int, simulate.Step) error, flush func() error) {
	if format == "json" {
		encoder := json.NewEncoder(out)
		return func(n int, step simulate.Step) error {
			return encoder.Encode(struct {
				N       int    `json:"n"`
				Verdict string `json:"verdict"`
				Reason  string `json:"reason"`
				Service string `json:"service"`
				Backend string `json:"backend"`
			}{n, step.Verdict, step.Reason, step.Service, step.Backend})
		}, func() error { return nil }
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FRAME\tVERDICT\tREASON\tSERVICE\tBACKEND")
	return func(n int, step simulate.Step) error {
		_, err := fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", n, step.Verdict, step.Reason, step.Service, step.Backend)
		return err
	}, table.Flush
}
