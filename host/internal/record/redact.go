package record

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// commandLimit is how many bytes of a command line a record holds (wire.Text).
const commandLimit = 4096

// RedactionRules names the rules that take secrets out of command lines, in the order in which they run. What a rule finds
// becomes `<redacted:rule>`:
//
//	url       the password of scheme://user:password@host
//	password  --password=…, --password …, DB_PASSWORD=…, password: …
//	token     the same for tokens, secrets, credentials, API and access keys
//	header    Authorization, Cookie and bearer tokens
//	user      the password of curl -u user:password
//	short     options of one letter of programs that are known to take a password by it (mysql -p, sshpass -p, …)
//	shape     what looks like a token of a well-known issuer, a JSON web token or a private key
func RedactionRules() []string {
	return []string{"url", "password", "token", "header", "user", "short", "shape"}
}

// redactor takes secrets out of command lines. It is read-only after newRedactor.
type redactor struct {
	hints    [][]byte // lower case; a command line without any of them is left alone
	patterns []pattern
	options  []pattern // whose next argument is the secret
	off      map[string]bool
}

// pattern finds a secret: its group named "s", or all of the match where there is no such group.
type pattern struct {
	rule    string
	re      *regexp.Regexp
	group   int
	partial bool // only for the last argument of a command line that was cut
}

// newRedactor gives an error for a name that is no rule.
func newRedactor(off []string) (*redactor, error) {
	r := &redactor{off: map[string]bool{}}
	for _, rule := range off {
		if !slices.Contains(RedactionRules(), rule) {
			return nil, fmt.Errorf("redaction rule %q: no such rule, there are: %s", rule, strings.Join(RedactionRules(), ", "))
		}
		r.off[rule] = true
	}
	const (
		// A name ends in the word: DB_PASSWORD, --http-pass and clientSecret are meant, --token-file is not.
		password = `(?:[\w.-]*(?:password|passwd|passphrase|passcode)|(?:[\w.-]*[-_.]|store|key)?pass(?:in|out)?|[\w.-]*[-_.]pwd)`
		token    = `(?:[\w.-]*(?:secret|token|(?:api|access|secret|auth|account)[-_.]?key|credentials?))`
		value    = `"[^"]+"|'[^']+'|[^\s,;&"']+`
	)
	r.add("url", `://[^\s/?#:@"']*:(?P<s>[^\s/?#"']+)@`)
	r.add("url", `://[^\s/?#:@"']*:(?P<s>[0-9]*[^0-9\s/?#@"'][^\s"']*)@`) // with a slash inside; a port has digits only
	r.addPartial("url", `://[^\s/?#:@"']*:(?P<s>[0-9]*[^0-9\s/?#@"'][^\s@]*)$`)
	for rule, name := range map[string]string{"password": password, "token": token} {
		r.add(rule, `(?is)^-{0,2}`+name+`=(?P<s>.+)$`)
		r.add(rule, `(?i)(?:^|[^\w.-])-{0,2}`+name+`["']?\s*[=:]\s*(?P<s>`+value+`)`)
		r.add(rule, `(?i)(?:^|[^\w.-])--`+name+`\s+(?P<s>`+value+`)`)
		if !r.off[rule] {
			r.options = append(r.options, pattern{rule: rule, re: regexp.MustCompile(`(?i)^--?` + name + `$`)})
		}
	}
	r.add("header", `(?i)authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?(?P<s>[^"'\r\n]+)`)
	r.add("header", `(?i)\bcookie["']?\s*:\s*(?P<s>[^"'\r\n]+)`)
	r.add("header", `(?i)\bbearer\s+(?P<s>[\w.~+/=-]{8,})`)
	r.add("shape", `\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|sk-[\w-]{20,})`)
	r.add("shape", `\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*`)
	r.add("shape", `(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*`)
	slices.SortStableFunc(r.patterns, func(a, b pattern) int {
		return slices.Index(RedactionRules(), a.rule) - slices.Index(RedactionRules(), b.rule)
	})
	for _, hint := range []string{"://", "pass", "pwd", "secret", "token", "key", "credential", "authorization", "cookie",
		"bearer", "gh", "github", "glpat", "xox", "sk-", "eyj", "curl", "http", "xh", "mysql", "mariadb", "ldap", "redis", "7z", "zip",
		"mosquitto"} {
		r.hints = append(r.hints, []byte(hint))
	}
	return r, nil
}

func (r *redactor) add(rule, expression string) {
	if r.off[rule] {
		return
	}
	re := regexp.MustCompile(expression)
	r.patterns = append(r.patterns, pattern{rule: rule, re: re, group: max(re.SubexpIndex("s"), 0)})
}

func (r *redactor) addPartial(rule, expression string) {
	if r.add(rule, expression); !r.off[rule] {
		r.patterns[len(r.patterns)-1].partial = true
	}
}

// text gives t itself where there is no secret, else a copy without. The copy has no SHA-256: a hash of the original
// would tell who tries passwords when he is right. A length stays that of the whole, as redacted.
func (r *redactor) text(t *wire.Text) *wire.Text {
	if t == nil || !r.suspects(t.Value) {
		return t
	}
	redacted := r.command(t.Value, t.Truncated)
	if bytes.Equal(redacted, t.Value) {
		return t
	}
	out := &wire.Text{Value: redacted, Truncated: t.Truncated}
	if t.Truncated {
		beyond := uint32(max(int64(t.Length)-int64(len(t.Value)), 0))
		out.Length = uint32(len(redacted)) + beyond
	}
	if len(redacted) > commandLimit {
		out.Length = max(out.Length, uint32(len(redacted)))
		out.Value, out.Truncated = redacted[:commandLimit], true
	}
	return out
}

// suspects is a cheap test: most command lines hold none of the words that the rules start from.
func (r *redactor) suspects(command []byte) bool {
	lower := bytes.ToLower(command)
	return slices.ContainsFunc(r.hints, func(hint []byte) bool { return bytes.Contains(lower, hint) })
}

// command redacts arguments that are separated by NUL.
func (r *redactor) command(command []byte, truncated bool) []byte {
	args := strings.Split(string(command), "\x00")
	var known program
	for i, arg := range args {
		if p, ok := programOf(arg); ok {
			known = p
		}
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		var secret string // the rule by which the next argument is one
		args[i], secret = r.argument(known, arg, next, truncated && i == len(args)-1)
		if secret != "" && next != "" {
			args[i+1] = mark(secret)
			if user, _, ok := strings.Cut(next, ":"); secret == "user" && ok {
				args[i+1] = user + ":" + mark(secret)
			}
		}
	}
	return []byte(strings.Join(args, "\x00"))
}

// argument redacts one argument, and names the rule by which the next one is a secret.
func (r *redactor) argument(known program, arg, next string, last bool) (redacted, rule string) {
	if strings.HasPrefix(arg, "<redacted:") || strings.Contains(arg, ":<redacted:user>") {
		return arg, ""
	}
	if rule := r.option(known, arg, next); rule != "" {
		return arg, rule
	}
	if cut, ok := known.attached(arg); ok && !r.off[known.rule] {
		return cut + mark(known.rule), ""
	}
	for _, p := range r.patterns {
		if p.partial && !last {
			continue
		}
		arg = p.replace(arg)
	}
	return arg, ""
}

// option names the rule by which the argument behind arg is a secret, or "".
func (r *redactor) option(known program, arg, next string) string {
	if next == "" || !strings.HasPrefix(arg, "-") || (len(next) > 1 && next[0] == '-') {
		return ""
	}
	if known.separate != "" && slices.Contains(strings.Fields(known.separate), arg) && !r.off[known.rule] {
		if known.rule != "user" || strings.Contains(next, ":") {
			return known.rule
		}
	}
	name := strings.TrimLeft(strings.ToLower(arg), "-")
	for _, flag := range []string{"no-", "ask-", "without-", "prompt-"} {
		if strings.HasPrefix(name, flag) {
			return ""
		}
	}
	for _, p := range r.options {
		if p.re.MatchString(arg) {
			return p.rule
		}
	}
	return ""
}

func (p pattern) replace(arg string) string {
	found := p.re.FindAllStringSubmatchIndex(arg, -1)
	if found == nil {
		return arg
	}
	var out strings.Builder
	at := 0
	for _, match := range found {
		start, end := match[2*p.group], match[2*p.group+1]
		if strings.HasPrefix(arg[start:end], "<redacted:") || strings.HasPrefix(arg[start:end], `"<redacted:`) {
			continue
		}
		out.WriteString(arg[at:start] + mark(p.rule))
		at = end
	}
	return out.String() + arg[at:]
}

func mark(rule string) string { return "<redacted:" + rule + ">" }

// program is one whose short options are known to take a secret.
type program struct {
	rule     string
	separate string // options whose next argument is the secret
	joined   string // options that the secret follows in the same argument
}

// programOf knows a program by the argument that names it, also behind sudo, env and the like.
func programOf(arg string) (program, bool) {
	switch name := path.Base(arg); name {
	case "curl", "http", "https", "xh":
		return program{rule: "user", separate: "-u --user -U --proxy-user -a --auth", joined: "-u --user= -U --proxy-user= --auth="}, true
	case "mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mariadb", "mariadb-dump", "mariadb-admin":
		return program{rule: "short", joined: "-p"}, true
	case "sshpass":
		return program{rule: "short", separate: "-p", joined: "-p"}, true
	case "ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldappasswd", "ldapwhoami", "ldapcompare":
		return program{rule: "short", separate: "-w", joined: "-w"}, true
	case "redis-cli":
		return program{rule: "short", separate: "-a"}, true
	case "7z", "7za", "7zr":
		return program{rule: "short", joined: "-p"}, true
	case "zip", "unzip":
		return program{rule: "short", separate: "-P"}, true
	case "mosquitto_pub", "mosquitto_sub":
		return program{rule: "short", separate: "-P"}, true
	case "ssh", "scp", "sftp", "rsync":
		return program{}, true // behind sshpass, their own -p is a port
	}
	return program{}, false
}

// attached gives what of arg stays, if a secret follows an option in the same argument.
func (p program) attached(arg string) (string, bool) {
	for option := range strings.FieldsSeq(p.joined) {
		rest, ok := strings.CutPrefix(arg, option)
		if !ok || rest == "" {
			continue
		}
		if p.rule != "user" {
			return option, true
		}
		if user, secret, ok := strings.Cut(rest, ":"); ok && secret != "" {
			return option + user + ":", true
		}
	}
	return "", false
}
