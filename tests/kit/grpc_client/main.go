// Asks a server with the client code that KEDA and Envoy publish, and prints what they heard as one line of JSON per answer.
//
//	grpc_client keda ADDRESS IsActive|StreamIsActive|GetMetricSpec|GetMetrics|StreamMetricSpec KEY=VALUE...
//	grpc_client ratelimit ADDRESS COUNT KEY=VALUE...
//
// The pairs are a trigger's metadata, or the entries of one descriptor. A stream is followed until it ends or its second message came.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	keda "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 3 {
		return errors.New("usage: grpc_client keda|ratelimit ADDRESS CALL|COUNT KEY=VALUE...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	connection, err := grpc.NewClient(arguments[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	switch arguments[0] {
	case "keda":
		return askScaler(ctx, keda.NewExternalScalerClient(connection), arguments[2], arguments[3:])
	case "ratelimit":
		return askLimit(ctx, ratelimit.NewRateLimitServiceClient(connection), arguments[2], arguments[3:])
	}
	return fmt.Errorf("unknown protocol %q", arguments[0])
}

func askScaler(ctx context.Context, client keda.ExternalScalerClient, call string, pairs []string) error {
	metadata := map[string]string{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		metadata[key] = value
	}
	object := &keda.ScaledObjectRef{Name: "web", Namespace: "shop", ScalerMetadata: metadata}
	switch call {
	case "IsActive":
		return tell(client.IsActive(ctx, object))
	case "GetMetricSpec":
		return tell(client.GetMetricSpec(ctx, object))
	case "GetMetrics":
		specs, err := client.GetMetricSpec(ctx, object)
		if err != nil {
			return err
		}
		for _, spec := range specs.MetricSpecs {
			request := &keda.GetMetricsRequest{ScaledObjectRef: object, MetricName: spec.MetricName}
			if err := tell(client.GetMetrics(ctx, request)); err != nil {
				return err
			}
		}
		return nil
	case "StreamIsActive":
		stream, err := client.StreamIsActive(ctx, object)
		if err != nil {
			return err
		}
		return follow(stream.Recv)
	case "StreamMetricSpec":
		stream, err := client.StreamMetricSpec(ctx, object)
		if err != nil {
			return err
		}
		return follow(stream.Recv)
	}
	return fmt.Errorf("unknown call %q", call)
}

func askLimit(ctx context.Context, client ratelimit.RateLimitServiceClient, count string, pairs []string) error {
	times, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	descriptor := &common.RateLimitDescriptor{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		descriptor.Entries = append(descriptor.Entries, &common.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	request := &ratelimit.RateLimitRequest{Domain: "edge", Descriptors: []*common.RateLimitDescriptor{descriptor}}
	for range times {
		if err := tell(client.ShouldRateLimit(ctx, request)); err != nil {
			return err
		}
	}
	return nil
}

func follow[M proto.Message](next func() (M, error)) error {
	for range 2 {
		message, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err := tell(message, err); err != nil {
			return err
		}
	}
	return nil
}

func tell[M proto.Message](message M, err error) error {
	if err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(message)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}
