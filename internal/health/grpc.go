package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/tinylb/tinylb/internal/lb"
)

// grpcProbe calls grpc.health.v1.Health/Check
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md): one request with
// one field, one answer with one field. The standard library has the HTTP/2 for that.
type grpcProbe struct {
	url       url.URL // but for the backend
	host      string
	request   []byte
	transport http.Transport // makes connections, keeps none
}

func newGRPCProbe(check lb.Check) (probe, error) {
	p := &grpcProbe{
		url:     url.URL{Scheme: "http", Path: "/grpc.health.v1.Health/Check"},
		host:    check.Host,
		request: healthRequest(check.Service),
	}
	p.transport.Protocols = new(http.Protocols)
	p.transport.DisableCompression = true
	if !check.TLS.On {
		p.transport.Protocols.SetUnencryptedHTTP2(true)
		p.transport.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			return dial(ctx, netip.MustParseAddrPort(address))
		}
		return p.ask, nil
	}
	config, err := tlsConfig(check, "h2")
	if err != nil {
		return nil, err
	}
	p.url.Scheme = "https"
	p.transport.Protocols.SetHTTP2(true)
	p.transport.DialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		to := netip.MustParseAddrPort(address)
		conn, err := dial(ctx, to)
		if err != nil {
			return nil, err
		}
		secured, err := handshake(ctx, conn, config, to)
		if err != nil {
			conn.Close()
			return nil, err
		}
		return secured, nil
	}
	return p.ask, nil
}

func (p *grpcProbe) ask(ctx context.Context, address netip.AddrPort) error {
	conn, err := p.transport.NewClientConn(ctx, p.url.Scheme, address.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	to := p.url
	to.Host = address.String()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(p.request))
	if err != nil {
		return during("send", err)
	}
	request.Host = p.host
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent}}
	response, err := conn.RoundTrip(request)
	if err != nil {
		return during("call", err)
	}
	defer response.Body.Close()
	return judgeGRPC(response)
}

func judgeGRPC(response *http.Response) error {
	switch {
	case response.ProtoMajor != 2:
		return errors.New("the backend does not speak HTTP/2")
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, mostRead))
	if err != nil {
		return during("receive", err)
	}
	status := response.Trailer.Get("Grpc-Status")
	if status == "" { // an answer that is nothing but trailers
		status = response.Header.Get("Grpc-Status")
	}
	if status != "0" {
		return fmt.Errorf("gRPC status %.3s", status)
	}
	serving, err := healthResponse(body)
	if err != nil {
		return err
	}
	if serving != servingStatus {
		return errors.New(statusName(serving))
	}
	return nil
}

// What follows is protocol buffers' encoding (https://protobuf.dev/programming-guides/encoding)
// of HealthCheckRequest and HealthCheckResponse, in gRPC's frames: a byte of flags, four of length.

const (
	grpcFrameHeader = 5
	serviceField    = 1<<3 | 2 // string service = 1
	statusField     = 1 << 3   // ServingStatus status = 1
	servingStatus   = 1
)

func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(binary.AppendUvarint([]byte{serviceField}, uint64(len(service))), service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

// healthResponse returns the status; an absent field is 0.
func healthResponse(frame []byte) (status uint64, err error) {
	bad := errors.New("the answer is no HealthCheckResponse")
	if len(frame) < grpcFrameHeader || frame[0] != 0 ||
		uint64(binary.BigEndian.Uint32(frame[1:])) != uint64(len(frame)-grpcFrameHeader) {
		return 0, bad
	}
	message := frame[grpcFrameHeader:]
	if len(message) == 0 {
		return 0, nil
	}
	status, n := binary.Uvarint(message[1:])
	if message[0] != statusField || n != len(message)-1 {
		return 0, bad
	}
	return status, nil
}

func statusName(status uint64) string {
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status < uint64(len(names)) {
		return names[status]
	}
	return "serving status " + strconv.FormatUint(status, 10)
}
