package packet

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func FuzzRead(f *testing.F) {
	random := rand.New(rand.NewPCG(4, 4))
	for range 50 {
		frame := randomPacket(random).Frame()
		f.Add(frame)
		f.Add(frame[:len(frame)/2])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		Diff(frame, nil)
		p, err := Read(frame)
		if err != nil {
			if Verify(frame) == nil {
				t.Errorf("verified, but cannot be read: %v", err)
			}
			return
		}
		if rebuilt := p.Frame(); Verify(frame) == nil && !bytes.Equal(rebuilt, frame) {
			t.Errorf("%v was rebuilt with a difference:\n%s", p, Diff(frame, rebuilt))
		} else if err := Verify(rebuilt); err != nil && !p.NoUDPChecksum && !p.hasOpaquePayload() {
			t.Errorf("%v, rebuilt: %v", p, err)
		}
		if again, err := Read(p.Frame()); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("error %v\n got %+v\nwant %+v", err, again, p)
		}
	})
}

// hasOpaquePayload reports whether Verify looks at headers that are payload to Read.
func (p Packet) hasOpaquePayload() bool {
	_, _, err := p.innerBytes(nil)
	return err == nil || p.IsICMPError() || p.Src.Addr().Is6() && isExtension(p.Protocol)
}

func FuzzReadCapture(f *testing.F) {
	for _, c := range captures() {
		f.Add(c.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ReadCapture(bytes.NewReader(data))
		if err != nil {
			return
		}
		var written bytes.Buffer
		if err := WriteCapture(&written, file); errors.Is(err, ErrTime) {
			return // times that the classic format cannot hold
		} else if err != nil {
			t.Fatal(err)
		}
		again, err := ReadCapture(&written)
		if err != nil || !reflect.DeepEqual(again, file) {
			t.Errorf("error %v\n got %+v\nwant %+v", err, again, file)
		}
	})
}
