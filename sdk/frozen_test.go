package sdk_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const wirePackage = "picosnitch.wire.v1."

// frozen is wire version 1 as it was: see testdata/v1/README.
type frozen struct {
	*protoregistry.Files
	messages map[string][][]byte // encoded, by name
}

func openFrozen(t *testing.T) frozen {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(readFrozen(t, "wire.binpb"), set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	f := frozen{Files: files, messages: map[string][][]byte{}}
	for line := range strings.Lines(string(readFrozen(t, "messages.txt"))) {
		name, digits, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		raw, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.messages[name] = append(f.messages[name], raw)
	}
	return f
}

func readFrozen(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/v1/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// decode reads a message with the frozen definitions. What they do not know is an error: they are those of old plugins.
func (f frozen) decode(t *testing.T, name protoreflect.FullName, raw []byte) *dynamicpb.Message {
	t.Helper()
	d, err := f.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// current reads a message with today's definitions.
func current(t *testing.T, name protoreflect.FullName, raw []byte) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New().Interface()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// text is a message in words: names of fields and enum values, and what they hold.
func text(t *testing.T, m proto.Message) string {
	t.Helper()
	out, err := protojson.MarshalOptions{Multiline: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), ":  ", ": ") // protojson's spaces vary on purpose
}

func TestNothingOfVersion1WasTakenAway(t *testing.T) {
	t.Parallel()
	openFrozen(t).RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			compareMessage(t, file.Messages().Get(i))
		}
		for i := range file.Enums().Len() {
			compareEnum(t, file.Enums().Get(i))
		}
		for i := range file.Services().Len() {
			compareService(t, file.Services().Get(i))
		}
		return true
	})
}

// today finds what now has the name of something frozen.
func today[D protoreflect.Descriptor](t *testing.T, was D) (D, bool) {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(was.FullName())
	is, ok := d.(D)
	if err != nil || !ok {
		t.Errorf("%s is gone: %v", was.FullName(), err)
	}
	return is, ok
}

func compareMessage(t *testing.T, was protoreflect.MessageDescriptor) {
	is, ok := today(t, was)
	if !ok {
		return
	}
	for i := range was.Fields().Len() {
		old := was.Fields().Get(i)
		now := is.Fields().ByNumber(old.Number())
		if now == nil || shape(now) != shape(old) {
			t.Errorf("%s, number %d: was %s", was.FullName(), old.Number(), shape(old))
		}
	}
	for i := range was.Enums().Len() {
		compareEnum(t, was.Enums().Get(i))
	}
}

// shape is what two sides must agree on about a field.
func shape(f protoreflect.FieldDescriptor) string {
	s := string(f.Name()) + " " + f.Cardinality().String() + " " + f.Kind().String()
	switch {
	case f.Message() != nil && !f.IsMap():
		s += " " + string(f.Message().FullName())
	case f.Enum() != nil:
		s += " " + string(f.Enum().FullName())
	}
	if o := f.ContainingOneof(); o != nil {
		s += " one of " + string(o.Name())
	}
	return s
}

func compareEnum(t *testing.T, was protoreflect.EnumDescriptor) {
	is, ok := today(t, was)
	for i := range was.Values().Len() {
		old := was.Values().Get(i)
		if now := is; ok && (now.Values().ByNumber(old.Number()) == nil || now.Values().ByNumber(old.Number()).Name() != old.Name()) {
			t.Errorf("%s: %d was %s", was.FullName(), old.Number(), old.Name())
		}
	}
}

func compareService(t *testing.T, was protoreflect.ServiceDescriptor) {
	is, ok := today(t, was)
	for i := range was.Methods().Len() {
		old := was.Methods().Get(i)
		if !ok {
			continue
		}
		now := is.Methods().ByName(old.Name())
		if now == nil || now.Input().FullName() != old.Input().FullName() || now.Output().FullName() != old.Output().FullName() ||
			now.IsStreamingClient() != old.IsStreamingClient() || now.IsStreamingServer() != old.IsStreamingServer() {
			t.Errorf("%s is gone, or takes or gives something else", old.FullName())
		}
	}
}

func TestFrozenMessagesMeanWhatTheyMeant(t *testing.T) {
	t.Parallel()
	f := openFrozen(t)
	count := 0
	f.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			name := file.Messages().Get(i).FullName()
			all := f.messages[string(name.Name())]
			if len(all) == 0 {
				t.Errorf("no frozen %s", name)
			}
			for _, raw := range all {
				count++
				now := current(t, name, raw)
				if len(now.ProtoReflect().GetUnknown()) > 0 {
					t.Errorf("%s: has fields that are not known any more", name)
				}
				if diff := cmp.Diff(text(t, f.decode(t, name, raw)), text(t, now)); diff != "" {
					t.Errorf("%s, -frozen +now:\n%s", name, diff)
				}
			}
		}
		return true
	})
	if count < 90 {
		t.Errorf("only %d frozen messages", count)
	}
}

func TestAFrozenBatchIsStillSound(t *testing.T) {
	t.Parallel()
	b := &wire.Batch{}
	if err := proto.Unmarshal(readFrozen(t, "batch.binpb"), b); err != nil {
		t.Fatal(err)
	}
	chain, err := sdk.Check(b, sdk.Hash{})
	const want = "20b4426de4d7dcfd8be18bb701b747a07e2859fd9e9f4bfe64696bfdede15525"
	if err != nil || hex.EncodeToString(chain[:]) != want {
		t.Errorf("the hash of the batch is %x (%v), was %s", chain, err, want)
	}
}
