package packages

import (
	"strings"
	"testing"
)

// FuzzParsers feeds all parsers the same text: none may fail but by an error, and a checksum is hexadecimal or empty.
func FuzzParsers(f *testing.F) {
	f.Add("Package: x\nStatus: install ok installed\nVersion: 1\nConffiles:\n /a 00 obsolete\n", "x")
	f.Add("d41d8cd98f00b204e9800998ecf8427e  usr/bin/x\n", "/usr/bin/x")
	f.Add("./usr/bin/x\\040 sha256digest=00 md5=11\n", "usr/bin/x ")
	f.Add("x 0:1-1 8 1 x00 /usr/bin/x\n", "/usr/bin/x")
	f.Add("%NAME%\nx\n\n%BACKUP%\netc/x\t00\n", "NAME")
	f.Fuzz(func(t *testing.T, text, name string) {
		if name == "" {
			return
		}
		sums := []string{md5Of([]byte(text), "/"+name)}
		for _, sum := range findStanza([]byte(text), name).conffiles {
			sums = append(sums, sum)
		}
		_, sum, _ := mtreeSum(strings.NewReader(text), name)
		sums = append(sums, sum)
		if c := parseRPM([]byte(text), []string{name}); c != nil {
			sums = append(sums, c.want)
		}
		for _, sum := range sums {
			if strings.Trim(sum, "0123456789abcdef") != "" {
				t.Errorf("checksum %q", sum)
			}
		}
		whole := strings.Contains("\n"+text+"\n", "\n"+name+"\n")
		if !strings.Contains(name, "\n") && hasLine([]byte(text), name) != whole {
			t.Errorf("line %q in %q: %v", name, text, !whole)
		}
		_, _ = section([]byte(text), name), complaint(text)
	})
}
