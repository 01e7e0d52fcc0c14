package datapath

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Before Linux 6.6 a program at an interface's ingress is a filter of a qdisc, which only
// netlink can make (tc-bpf(8)).

// filterPriority is ours among other programs' filters, which may have any.
const filterPriority = 746

func ingressQdisc(index int) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

func ingressFilter(index, fd int) netlink.Filter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1,
			Protocol: unix.ETH_P_ALL, Priority: filterPriority,
		},
		Fd: fd, Name: "tinylb_emit", DirectAction: true,
	}
}

// addQdisc reports whether there was none.
func addQdisc(index int) (made bool, err error) {
	err = netlink.QdiscAdd(ingressQdisc(index))
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("add a clsact qdisc: %w", err)
	}
	return true, nil
}

func replaceFilter(index, fd int) error {
	if err := netlink.FilterReplace(ingressFilter(index, fd)); err != nil {
		return fmt.Errorf("add a filter: %w", err)
	}
	return nil
}

// removeFilter takes the filter away, and the qdisc, if that is ours and nobody else has a filter in it. An
// interface that is gone is no error.
func removeFilter(index int, qdiscToo bool) error {
	gone := func(err error) bool {
		return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
	}
	if err := netlink.FilterDel(ingressFilter(index, -1)); err != nil && !gone(err) {
		return fmt.Errorf("remove the filter: %w", err)
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil || !qdiscToo {
		return nil
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(link, parent)
		if err != nil || len(filters) > 0 {
			return err
		}
	}
	if err := netlink.QdiscDel(ingressQdisc(index)); err != nil && !gone(err) {
		return fmt.Errorf("remove the clsact qdisc: %w", err)
	}
	return nil
}
