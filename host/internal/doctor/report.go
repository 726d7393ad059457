package doctor

// Schema is the version of a [Report] as JSON. It grows when a field changes its meaning or goes, not when one is added.
const Schema = 1

// Level says how bad a finding is.
type Level string

// Levels of findings.
const (
	OK      Level = "ok"
	Warning Level = "warning" // picosnitch works, with less than it could do
	Problem Level = "problem" // something does not work
)

// Verdict is what a report comes to.
type Verdict string

// Verdicts, each worse than the one before.
const (
	AllWell       Verdict = "ok"
	WithWarnings  Verdict = "warnings"
	WithProblems  Verdict = "problems"
	CannotCapture Verdict = "cannot capture"
)

// Finding is one thing that was looked at.
type Finding struct {
	Level  Level    `json:"level"`
	About  string   `json:"about"` // "kernel", "types", …: docs/doctor.md lists them
	Says   string   `json:"says"`
	Do     string   `json:"do,omitempty"`     // for a person; never empty for a problem
	Blocks bool     `json:"blocks,omitempty"` // a problem that leaves nothing to capture
	Detail []string `json:"detail,omitempty"`
}

// Report is what the doctor says.
type Report struct {
	Schema   int       `json:"schema"`
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"`
	Facts    Facts     `json:"facts"`
}

// Judge says what facts mean. It is a function of them alone.
func Judge(f Facts) Report {
	r := Report{Schema: Schema, Facts: f}
	for _, judge := range []func(Facts) []Finding{
		judgeKernel, judgeTypes, judgeLockdown, judgeCgroup, judgeBPFFS, judgePins, judgePrivileges, judgeCapture,
		judgeConfig, judgePlugins, judgeDisks, judgeJournal, judgeMemory, judgeFiles, judgeDaemon,
	} {
		r.Findings = append(r.Findings, judge(f)...)
	}
	r.Verdict = verdict(r.Findings)
	return r
}

func verdict(findings []Finding) Verdict {
	worst := AllWell
	for _, f := range findings {
		switch {
		case f.Level == Problem && f.Blocks:
			return CannotCapture
		case f.Level == Problem:
			worst = WithProblems
		case f.Level == Warning && worst == AllWell:
			worst = WithWarnings
		}
	}
	return worst
}

// Problems are the findings that are worse than a warning.
func (r Report) Problems() []Finding {
	var problems []Finding
	for _, f := range r.Findings {
		if f.Level == Problem {
			problems = append(problems, f)
		}
	}
	return problems
}

func ok(about, says string) Finding { return Finding{Level: OK, About: about, Says: says} }

func warning(about, says, do string) Finding {
	return Finding{Level: Warning, About: about, Says: says, Do: do}
}

func problem(about, says, do string) Finding {
	return Finding{Level: Problem, About: about, Says: says, Do: do}
}

// blocking is a problem that leaves nothing to capture.
func blocking(about, says, do string) Finding {
	return Finding{Level: Problem, About: about, Says: says, Do: do, Blocks: true}
}
