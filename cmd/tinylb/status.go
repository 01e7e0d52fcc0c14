package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tinylb/tinylb/internal/daemon"
	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
)

func newStatusCommand(env env) *cobra.Command {
	var pin, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show services, backends, and what became of the packets",
		Long: `Show the interfaces, services, backends and next hops of the data plane, and
how many packets ended for which reason. It reads the pinned maps, so it works
without a running daemon too.`,
		Example: "  tinylb status\n  tinylb status -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			status, err := daemon.ReadStatus(pin)
			if errors.Is(err, datapath.ErrNotRunning) {
				return fmt.Errorf("%w; start it with: tinylb run -c FILE", err)
			}
			if err != nil {
				return hostErr(err)
			}
			if output == "json" {
				return printJSON(env.stdout, status)
			}
			return printStatus(env.stdout, status)
		},
	}
	pinFlag(cmd, &pin)
	outputFlag(cmd, &output)
	return cmd
}

func printStatus(out io.Writer, s lb.Status) error {
	fmt.Fprintf(out, "data plane  %s\n", s.Pin)
	if s.DaemonPID != 0 {
		fmt.Fprintf(out, "daemon      running, pid %d\n", s.DaemonPID)
	} else {
		fmt.Fprintln(out, "daemon      not running; the data plane forwards without it")
	}
	for _, i := range s.Interfaces {
		fmt.Fprintf(out, "interface   %s, %s XDP\n", i.Name, i.Mode)
		for _, notice := range i.Notices {
			fmt.Fprintf(out, "            note: %s\n", notice)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nSERVICE\tADDRESS\tPROTOCOL\tFORWARD\tSCHEDULER\tBACKENDS")
	for _, service := range s.Services {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", service.Name, service.Address,
			strings.Join(service.Protocols, ","), service.Forward, service.Scheduler, usableShare(service.Backends))
	}
	fmt.Fprintln(table, "\nSERVICE\tBACKEND\tADDRESS\tWEIGHT\tNEXT HOP\tACTIVE\tFLOWS\tPACKETS IN\tPACKETS OUT\tBYTES IN\tBYTES OUT")
	for _, service := range s.Services {
		for _, b := range service.Backends {
			c := b.Counters
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", service.Name, b.Name, lb.Backend{Address: b.Address}.Label(), b.Weight,
				nextHopText(b), b.Active, c.Flows, c.PacketsIn, c.PacketsOut, c.BytesIn, c.BytesOut)
		}
	}
	printHealth(table, s)
	fmt.Fprintln(table, "\nSERVICE\tREASON\tPACKETS")
	for _, r := range s.Reasons {
		service := r.Service
		if service == "" {
			service = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\n", service, r.Reason, r.Packets)
	}
	f := s.Fragments
	fmt.Fprintf(table, "\nfragments\t%d held (%d bytes); %d datagrams never completed\n", f.Held, f.Bytes, f.Incomplete)
	return table.Flush()
}

// printHealth lists the backends that are checked, if there are any.
func printHealth(out io.Writer, s lb.Status) {
	header := "\nSERVICE\tBACKEND\tHEALTH\tSINCE\tLAST ERROR"
	for _, service := range s.Services {
		for _, b := range service.Backends {
			if b.Health == nil {
				continue
			}
			if header != "" {
				fmt.Fprintln(out, header)
				header = ""
			}
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", service.Name, b.Name, b.Health.State, timeText(b.Health.Since), lastError(b.Health))
		}
	}
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateTime)
}

func lastError(h *lb.HealthStatus) string {
	if h.LastError == "" {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", h.LastError, timeText(h.LastErrorAt))
}

func usableShare(backends []lb.BackendStatus) string {
	usable := 0
	for _, b := range backends {
		if b.Usable {
			usable++
		}
	}
	return fmt.Sprintf("%d/%d usable", usable, len(backends))
}

func nextHopText(b lb.BackendStatus) string {
	if b.NextHop == nil {
		return "none"
	}
	text := b.NextHop.MAC + " by " + b.NextHop.Interface
	if b.NextHop.VLAN != 0 {
		text += fmt.Sprintf(", VLAN %d", b.NextHop.VLAN)
	}
	return text
}
