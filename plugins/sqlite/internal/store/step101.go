package store

import (
	"fmt"
	"strings"
)

// steps are the scripts that bring a file from one version to the next, the first from [firstVersion].
func steps() []string { return []string{step101(), step102, step103} }

// step101 splits the flows of version 100 into actors, remotes and traits, and makes the roll-ups. Rows that it makes get
// random keys: the same process seen again becomes another row, which the view shows alike.
func step101() string {
	const old = "old_flows"
	shared := []string{"epochs", "batches", "windows", "texts", "addresses", "executables", "processes", "gaps", "notices", "events"}
	var b strings.Builder
	b.WriteString("DROP VIEW IF EXISTS connections;\nDROP INDEX flows_window;\nALTER TABLE flows RENAME TO " + old +
		";\nALTER TABLE flow_domains RENAME TO old_flow_domains;\n")
	b.WriteString(`ALTER TABLE epochs ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE batches ADD COLUMN start INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batches ADD COLUMN stop INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN oldest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executables ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
`)
	for _, statement := range strings.SplitAfter(tables, ";\n") {
		if !makesOneOf(statement, shared) {
			b.WriteString(statement)
		}
	}
	const random = "randomblob(16)"
	programs := `p.executable, p.name, p.uid, p.unit, p.container, pp.executable, pp.name, pp.uid, g.executable, g.name, g.uid`
	from := " FROM " + old + " f JOIN processes p ON p.id = f.process JOIN processes pp ON pp.id = f.parent JOIN processes g ON g.id = f.grandparent"
	fmt.Fprintf(&b, "INSERT INTO programs SELECT NULL, %s, 0, * FROM (SELECT DISTINCT %s%s);\n", random, programs, from)
	same := `m.executable = p.executable AND m.name = p.name AND m.uid = p.uid AND m.unit = p.unit AND m.container = p.container
AND m.pexecutable = pp.executable AND m.pname = pp.name AND m.puid = pp.uid AND m.gexecutable = g.executable
AND m.gname = g.name AND m.guid = g.uid`
	fmt.Fprintf(&b, "INSERT INTO actors SELECT NULL, %s, 0, d.process, d.parent, d.grandparent, (SELECT m.id FROM programs m WHERE %s)"+
		" FROM (SELECT DISTINCT process, parent, grandparent FROM %s) d JOIN processes p ON p.id = d.process"+
		" JOIN processes pp ON pp.id = d.parent JOIN processes g ON g.id = d.grandparent;\n", random, same, old)
	fmt.Fprintf(&b, "INSERT INTO remotes SELECT NULL, %s, 0, raddr, domain, domain, rport, direction, family, protocol"+
		" FROM (SELECT DISTINCT raddr, domain, rport, direction, family, protocol FROM %s);\n", random, old)
	traits := "laddr, result, layer, peer, domain_source, mapped, netns, ifindex, attribution, counting, existing, icmp_type, icmp_code"
	fmt.Fprintf(&b, "INSERT INTO traits SELECT NULL, %s, 0, * FROM (SELECT DISTINCT %s FROM %s);\n", random, traits, old)
	b.WriteString(`CREATE INDEX step_actors ON actors (process, parent, grandparent);
CREATE INDEX step_remotes ON remotes (raddr, domain, rport);
`)
	var equal []string
	for _, name := range strings.Split(traits, ", ") {
		equal = append(equal, "q."+name+" = f."+name)
	}
	fmt.Fprintf(&b, `INSERT INTO flows SELECT row_number() OVER (ORDER BY f.batch, f.id), f.batch, f.sequence, f.kind, f.window,
(SELECT o.id FROM actors o WHERE o.process = f.process AND o.parent = f.parent AND o.grandparent = f.grandparent),
(SELECT r.id FROM remotes r WHERE r.raddr = f.raddr AND r.domain = f.domain AND r.rport = f.rport AND r.direction = f.direction
 AND r.family = f.family AND r.protocol = f.protocol),
(SELECT q.id FROM traits q WHERE %s),
f.lport, f.socket, f.sent, f.received, f.sends, f.receives, f.connects, f.accepts, f.failures, f.listens FROM %s f;
DROP INDEX step_actors;
DROP INDEX step_remotes;
INSERT INTO flow_rare SELECT n.id, f.folded_peers, f.candidates, f.truncated FROM %[2]s f
JOIN flows n ON n.batch = f.batch AND n.sequence = f.sequence WHERE f.folded_peers <> 0 OR f.candidates <> '' OR f.truncated <> '';
INSERT INTO flow_domains SELECT n.id, d.position, d.domain, d.source, d.age, d.scope FROM old_flow_domains d
JOIN %[2]s f ON f.id = d.flow JOIN flows n ON n.batch = f.batch AND n.sequence = f.sequence;
UPDATE batches SET start = s.start, stop = s.stop, oldest = s.oldest, newest = s.newest FROM (SELECT f.batch, min(f.id) AS start,
max(f.id) AS stop, min(w.ended) AS oldest, max(w.ended) AS newest FROM flows f JOIN windows w ON w.id = f.window GROUP BY f.batch) s
WHERE s.batch = batches.id;
`, strings.Join(equal, " AND "), old)
	for _, f := range families() {
		b.WriteString(rollUpAgain(f, "kind < 3"))
	}
	// What they refer to lives as long as they do, and all of it longer than any flow.
	latest := "(SELECT coalesce(max(ended), 0) FROM windows)"
	for _, table := range []string{"programs", "actors", "remotes", "traits", "executables", "texts", "addresses", "processes"} {
		fmt.Fprintf(&b, "UPDATE %s SET seen = max(seen, %s);\n", table, latest)
	}
	b.WriteString("DROP TABLE old_flow_domains;\nDROP TABLE " + old + ";\n")
	return b.String()
}

// rollUpAgain makes the rows of a family from the flows for which the condition holds.
func rollUpAgain(f family, condition string) string {
	var b strings.Builder
	var columns []string
	for _, m := range measures() {
		if m == "" {
			columns = append(columns, "count(*)")
		} else {
			columns = append(columns, "sum("+m+")")
		}
	}
	for _, width := range f.direct {
		fmt.Fprintf(&b, "INSERT INTO %s SELECT %d, %s AS bucket, %s, %s FROM flows f JOIN windows w ON w.id = f.window"+
			" JOIN actors o ON o.id = f.actor WHERE %s GROUP BY bucket, %s;\n", f.table, width, bucketSQL("w.ended", width),
			strings.Join(f.keys, ", "), strings.Join(columns, ", "), condition, strings.Join(f.keys, ", "))
	}
	return b.String()
}

// makesOneOf says whether a statement of [tables] makes one of the tables, or an index of one.
func makesOneOf(statement string, names []string) bool {
	for _, name := range names {
		if strings.Contains(statement, "CREATE TABLE "+name+" (") || strings.Contains(statement, " ON "+name+" (") {
			return true
		}
	}
	return false
}
