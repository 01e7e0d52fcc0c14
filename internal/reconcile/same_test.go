package reconcile

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// A field that sameService overlooks would be a change that is never applied.
func TestSameServiceSeesEveryField(t *testing.T) {
	base := lb.Service{
		Protocols: []lb.Protocol{lb.TCP},
		SNAT:      lb.SNAT{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		Tunnel:    lb.Tunnel{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		Backends:  []lb.Backend{{Weight: 1}},
	}
	if !sameService(&base, &base) {
		t.Fatal("a service differs from itself")
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[lb.Service]()) {
		changed := base
		alter(t, reflect.ValueOf(&changed).Elem().FieldByIndex(field.Index))
		if sameService(&base, &changed) {
			t.Errorf("%s is overlooked", field.Name)
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[lb.SNAT]()) {
		changed := base
		alter(t, reflect.ValueOf(&changed.SNAT).Elem().FieldByIndex(field.Index))
		if sameService(&base, &changed) {
			t.Errorf("SNAT.%s is overlooked", field.Name)
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[lb.Tunnel]()) {
		changed := base
		alter(t, reflect.ValueOf(&changed.Tunnel).Elem().FieldByIndex(field.Index))
		if sameService(&base, &changed) {
			t.Errorf("Tunnel.%s is overlooked", field.Name)
		}
	}
}

func alter(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("other")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Struct:
		switch v.Interface().(type) {
		case lb.VIP:
			v.Set(reflect.ValueOf(lb.VIPAt(netip.MustParseAddrPort("10.0.0.9:9"))))
		case lb.PortRange:
			v.Set(reflect.ValueOf(lb.PortRange{First: 1, Last: 2}))
		case lb.QUIC:
			v.Set(reflect.ValueOf(lb.QUIC{ServerIDLength: 7}))
		case lb.Tunnel:
			v.Set(reflect.ValueOf(lb.Tunnel{Port: 7}))
		case lb.ClientRate:
			v.Set(reflect.ValueOf(lb.ClientRate{PrefixV4: 7}))
		case lb.Affinity:
			v.Set(reflect.ValueOf(lb.Affinity{Group: "other"}))
		case lb.Timeouts:
			v.Set(reflect.ValueOf(lb.Timeouts{UDPStream: 7}))
		case lb.SNAT:
			v.Set(reflect.ValueOf(lb.SNAT{Ports: lb.PortRange{First: 1, Last: 2}}))
		default:
			t.Fatalf("say how to change a %s", v.Type())
		}
	default:
		t.Fatalf("say how to change a %s", v.Type())
	}
}
