package store

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
)

const schemaDoc = "../../../../docs/schema.md"

func TestTheSchemaGuideListsEveryColumnInOrder(t *testing.T) {
	t.Parallel()
	guide := string(contents(t, schemaDoc))
	rest := guide
	for _, c := range sdk.Columns() {
		line := fmt.Sprintf("| `%s` | %s | %s |\n", c.Name, c.Type, c.Doc)
		i := strings.Index(rest, line)
		if i < 0 {
			t.Fatalf("%s lacks, or has elsewhere, the line\n%s", schemaDoc, line)
		}
		rest = rest[i+len(line):]
	}
	for _, match := range regexp.MustCompile(`CREATE TABLE (\w+)`).FindAllStringSubmatch(tables, -1) {
		if !strings.Contains(guide, "| `"+match[1]+"` |") {
			t.Errorf("%s does not explain the table %s", schemaDoc, match[1])
		}
	}
}

func TestTheStatementsOfTheSchemaGuideRun(t *testing.T) {
	t.Parallel()
	s := sample(t)
	guide, err := os.ReadFile(schemaDoc)
	if err != nil {
		t.Fatal(err)
	}
	db := reader(t, s, "mode=rw&_busy_timeout=2000")
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 5 {
		t.Fatalf("the guide has %d blocks of SQL", len(blocks))
	}
	for _, block := range blocks {
		if _, err := db.Exec(block[1]); err != nil {
			t.Errorf("%s\n%v", block[1], err)
		}
	}
}
