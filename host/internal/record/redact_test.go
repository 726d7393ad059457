package record

import (
	"bytes"
	"strings"
	"testing"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// commands are written with spaces for NUL; "~" stands for a space inside an argument.
func nul(s string) []byte {
	return []byte(strings.ReplaceAll(strings.ReplaceAll(s, " ", "\x00"), "~", " "))
}

func TestRedactTakesSecretsAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"url", "git clone https://bob:hunter2@example.org/x", "git clone https://bob:<redacted:url>@example.org/x"},
		{"url without user", "x redis://:hunter2@h/0", "x redis://:<redacted:url>@h/0"},
		{"url with at sign", "x ftp://bob:a@b@h/", "x ftp://bob:<redacted:url>@h/"},
		{"url with slash in it", "x pg://bob:a/b@h/db", "x pg://bob:<redacted:url>@h/db"},
		{"url with user alone", "x ssh://git@h/x", "x ssh://git@h/x"},
		{"url with port", "x http://h:8080/@scope/p http://h:80", "x http://h:8080/@scope/p http://h:80"},
		{"password equals", "x --password=hunter2,3 y", "x --password=<redacted:password> y"},
		{"password pair", "x --password hunter2 y", "x --password <redacted:password> y"},
		{"password pair, one dash", "java -keypass hunter2", "java -keypass <redacted:password>"},
		{"password as last", "x --password", "x --password"},
		{"password before option", "mysql --password --host h", "mysql --password --host h"},
		{"password negated", "x --ask-password host", "x --ask-password host"},
		{"password file", "x --password-file /etc/p --password-file=/p", "x --password-file /etc/p --password-file=/p"},
		{"environment", "env DB_PASSWORD=a PGPASSWORD=b MYSQL_PWD=c PWD=/home x", "env DB_PASSWORD=<redacted:password> PGPASSWORD=<redacted:password> MYSQL_PWD=<redacted:password> PWD=/home x"},
		{"mount options", "mount -o user=bob,password=hunter2,uid=0", "mount -o user=bob,password=<redacted:password>,uid=0"},
		{"json", `x {"password":"hunter2","a":1}`, `x {"password":<redacted:password>,"a":1}`},
		{"shell", "sh -c mysqldump~--password~hunter2~db", "sh -c mysqldump~--password~<redacted:password>~db"},
		{"openssl", "openssl rsa -passin pass:hunter2", "openssl rsa -passin <redacted:password>"},
		{"compass", "x --compass=n bypass=1", "x --compass=n bypass=1"},
		{"token pair", "x --token abc --api-key def", "x --token <redacted:token> --api-key <redacted:token>"},
		{"token equals", "x --access-token=abc AWS_SECRET_ACCESS_KEY=d", "x --access-token=<redacted:token> AWS_SECRET_ACCESS_KEY=<redacted:token>"},
		{"query", "curl https://h/x?a=1&token=abc&b=2", "curl https://h/x?a=1&token=<redacted:token>&b=2"},
		{"tokens are no token", "x --max-tokens 5 --tokenizer t", "x --max-tokens 5 --tokenizer t"},
		{"header", "curl -H Authorization:~Bearer~abcdefgh https://h", "curl -H Authorization:~Bearer~<redacted:header> https://h"},
		{"cookie", "curl -b x -H Cookie:~sid=1;~b=2", "curl -b x -H Cookie:~<redacted:header>"},
		{"own header", "curl -H X-Api-Key:~abc", "curl -H X-Api-Key:~<redacted:token>"},
		{"curl user", "curl -u bob:hunter2 --user=bob:x -ubob:y h", "curl -u bob:<redacted:user> --user=bob:<redacted:user> -ubob:<redacted:user> h"},
		{"docker user", "docker run -u 1000:1000 x", "docker run -u 1000:1000 x"},
		{"mysql", "sudo mysql -phunter2 -uroot db", "sudo mysql -p<redacted:short> -uroot db"},
		{"ssh port", "ssh -p 22 h -p23", "ssh -p 22 h -p23"},
		{"sshpass", "sshpass -p hunter2 ssh -p h", "sshpass -p <redacted:short> ssh -p h"},
		{"github", "x ghp-no", "x ghp-no"},
		{"jwt", "x eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "x <redacted:shape>"},
		{"url that ends as a program", "x https://bob:hunter2@h/curl", "x https://bob:<redacted:url>@h/curl"},
		{"issuers", "x ghp_0123456789abcdefghij github_pat_0123456789abcdefghij xoxb-0123456789 sk-0123456789abcdefghij", "x <redacted:shape> <redacted:shape> <redacted:shape> <redacted:shape>"},
		{"github alone", "x github_pat_0123456789abcdefghij", "x <redacted:shape>"},
		{"private key", "x -----BEGIN~RSA~PRIVATE~KEY-----MII", "x <redacted:shape>"},
		{"ldap, redis, archives", "ldapsearch -w a -x ; redis-cli -a b ; 7z -pc ; zip -P d", "ldapsearch -w <redacted:short> -x ; redis-cli -a <redacted:short> ; 7z -p<redacted:short> ; zip -P <redacted:short>"},
		{"plain", "ls -l /etc/passwd", "ls -l /etc/passwd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := newRedactor(nil)
			if err != nil {
				t.Fatal(err)
			}
			got := r.text(&wire.Text{Value: nul(c.in)})
			if want := nul(c.want); !bytes.Equal(got.Value, want) {
				t.Errorf("got  %q\nwant %q", got.Value, want)
			}
			if again := r.text(got); !bytes.Equal(again.Value, got.Value) {
				t.Errorf("twice gives %q", again.Value)
			}
		})
	}
}

func TestRedactLeavesNoWayBackToTheSecret(t *testing.T) {
	t.Parallel()
	r, err := newRedactor(nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := &wire.Text{Value: nul("x --token abc"), Truncated: true, Length: 5000, Sha256: make([]byte, 32)}
	got := r.text(whole)
	want := nul("x --token <redacted:token>")
	if !bytes.Equal(got.Value, want) || !got.Truncated || got.Sha256 != nil {
		t.Errorf("got %v", got)
	}
	if got.Length != uint32(5000-len(whole.Value)+len(want)) {
		t.Errorf("length %d", got.Length)
	}
	if string(whole.Value) != string(nul("x --token abc")) {
		t.Error("the shared message was changed")
	}
	cut := r.text(&wire.Text{Value: nul("x https://bob:hunt"), Truncated: true, Length: 5000})
	if !bytes.Equal(cut.Value, nul("x https://bob:<redacted:url>")) {
		t.Errorf("a password that was cut: %q", cut.Value)
	}
	long := append(nul("x --token=a "), bytes.Repeat([]byte("y"), commandLimit-12)...)
	grown := r.text(&wire.Text{Value: long})
	if len(grown.Value) != commandLimit || !grown.Truncated || grown.Length != commandLimit+15 {
		t.Errorf("grown: %d bytes, truncated %v, length %d", len(grown.Value), grown.Truncated, grown.Length)
	}
}

func TestRedactionRulesCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	samples := map[string]string{
		"url":      "x ftp://bob:hunter2@h/",
		"password": "x --password hunter2",
		"token":    "x --token=hunter2",
		"header":   "x Authorization:~Basic~hunter2",
		"user":     "curl -u bob:hunter2",
		"short":    "mysql -phunter2",
		"shape":    "x glpat-hunter2hunter2hunter2",
	}
	for _, rule := range RedactionRules() {
		on, err := newRedactor(nil)
		if err != nil {
			t.Fatal(err)
		}
		off, err := newRedactor([]string{rule})
		if err != nil {
			t.Fatal(err)
		}
		text := &wire.Text{Value: nul(samples[rule])}
		if got := on.text(text); !bytes.Contains(got.Value, []byte("<redacted:"+rule+">")) {
			t.Errorf("%s on: %q", rule, got.Value)
		}
		if got := off.text(text); got != text {
			t.Errorf("%s off: %q", rule, got.Value)
		}
	}
	if _, err := newRedactor([]string{"urls"}); err == nil || !strings.Contains(err.Error(), `"urls"`) {
		t.Errorf("unknown rule: %v", err)
	}
}

func FuzzRedactIsStable(f *testing.F) {
	f.Add([]byte("mysql\x00-pa\x00--token\x00b"))
	f.Add([]byte("x\x00http://a:b@c"))
	f.Fuzz(func(t *testing.T, command []byte) {
		r, err := newRedactor(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := r.command(command, false)
		if bytes.Count(got, []byte{0}) != bytes.Count(command, []byte{0}) {
			t.Errorf("%q became %q: other arguments", command, got)
		}
	})
}
