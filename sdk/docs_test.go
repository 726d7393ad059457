package sdk

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// wireDocument is the contract in prose. PICOSNITCH_UPDATE=1 makes the test rewrite its lists of columns.
const wireDocument = "../docs/wire.md"

func TestTheDocumentNamesEveryColumn(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(wireDocument)
	if err != nil {
		t.Fatal(err)
	}
	got := string(raw)
	want := replaceList(t, got, "columns", flowColumnsTable())
	want = replaceList(t, want, "other columns", otherColumnsTable())
	if got == want {
		return
	}
	if os.Getenv("PICOSNITCH_UPDATE") == "" {
		t.Fatalf("%s does not list the columns as they are: run this test with PICOSNITCH_UPDATE=1", wireDocument)
	}
	if err := os.WriteFile(wireDocument, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replaceList puts list between the two comments called name.
func replaceList(t *testing.T, document, name, list string) string {
	t.Helper()
	begin := "<!-- " + name + ": checked by TestTheDocumentNamesEveryColumn -->\n"
	before, rest, ok := strings.Cut(document, begin)
	_, after, ok2 := strings.Cut(rest, "<!-- end of "+name+" -->\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no list of %s", wireDocument, name)
	}
	return before + begin + list + "<!-- end of " + name + " -->\n" + after
}

func flowColumnsTable() string {
	var b strings.Builder
	b.WriteString("| Column | Type | Holds |\n| --- | --- | --- |\n")
	for _, c := range Columns() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Type, c.Doc)
	}
	return b.String()
}

func otherColumnsTable() string {
	shared := map[string]string{}
	for _, c := range Columns() {
		shared[c.Name] = c.Doc
	}
	var b strings.Builder
	b.WriteString("| Kind | Columns after `seq` |\n| --- | --- |\n")
	for _, r := range everyKind() {
		kind := KindOf(r)
		if kind == KindFlow || kind == KindUnknown {
			continue
		}
		var names []string
		for _, c := range ColumnsOf(kind)[3:] {
			name := "`" + c.Name + "`"
			if shared[c.Name] != c.Doc {
				name += fmt.Sprintf(" (%s, %s)", c.Type, c.Doc)
			}
			names = append(names, name)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", kind, strings.Join(names, ", "))
	}
	return b.String()
}
