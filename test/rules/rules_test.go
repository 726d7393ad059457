// Package rules has the house's rules that a parser can check, each with its reason. The order of the stages is checked in
// host/stages_test.go.
package rules

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxLines is what a person reads in one go.
const maxLines = 400

// source is a file of ours that is not generated.
type source struct {
	path  string
	lines int
	set   *token.FileSet
	tree  *ast.File
}

// sources gives the program's files, or those of its tests.
func sources(t *testing.T, tests bool) (all []source) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." || entry.Name() == "bin"):
			return fs.SkipDir
		case filepath.Ext(path) != ".go", strings.HasSuffix(path, "_test.go") != tests:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s := source{path: filepath.Clean(strings.TrimPrefix(path, "../../")), lines: bytes.Count(text, []byte("\n")), set: token.NewFileSet()}
		s.tree, err = parser.ParseFile(s.set, path, text, parser.ParseComments)
		if err == nil && !ast.IsGenerated(s.tree) {
			all = append(all, s)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d files were found", len(all))
	}
	return all
}

func TestRules(t *testing.T) {
	all := sources(t, false)
	for name, rule := range map[string]func(*testing.T, []source){
		"a package says once what it is":          onePackageComment,
		"files are short":                         shortFiles,
		"exported names are documented":           documented,
		"no package has state, or acts by itself": stateless,
	} {
		t.Run(name, func(t *testing.T) { rule(t, all) })
	}
}

// TestSkipsAreListed: go test keeps silent about a test that was skipped, so that nobody misses what it would have found.
func TestSkipsAreListed(t *testing.T) {
	for _, s := range sources(t, true) {
		ast.Inspect(s.tree, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok || call.Sel.Name != "Skip" && call.Sel.Name != "Skipf" {
				return true
			}
			if x, ok := call.X.(*ast.Ident); ok && x.Name == "t" {
				t.Errorf("%s: t.%s: use test/need", s.set.Position(n.Pos()), call.Sel.Name)
			}
			return true
		})
	}
}

func onePackageComment(t *testing.T, all []source) {
	said := map[string]int{}
	for _, s := range all {
		said[filepath.Dir(s.path)] += 0
		if s.tree.Doc != nil {
			said[filepath.Dir(s.path)]++
		}
	}
	for directory, n := range said {
		if n != 1 {
			t.Errorf("%s has %d package comments", directory, n)
		}
	}
}

func shortFiles(t *testing.T, all []source) {
	for _, s := range all {
		if s.lines > maxLines {
			t.Errorf("%s has %d lines, at most %d", s.path, s.lines, maxLines)
		}
	}
}

// documented: what an exported name promises is written beside it. Methods are left out: many say no more than an interface
// does.
func documented(t *testing.T, all []source) {
	for _, s := range all {
		for _, d := range s.tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() && d.Doc == nil {
					t.Errorf("%s: func %s", s.set.Position(d.Pos()), d.Name)
				}
			case *ast.GenDecl:
				for _, name := range undocumented(d) {
					t.Errorf("%s: %s %s", s.set.Position(d.Pos()), d.Tok, name)
				}
			}
		}
	}
}

func undocumented(d *ast.GenDecl) (names []string) {
	if d.Doc != nil {
		return nil
	}
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil {
				names = append(names, spec.Name.Name)
			}
		case *ast.ValueSpec:
			if spec.Names[0].IsExported() && spec.Doc == nil && spec.Comment == nil {
				names = append(names, spec.Names[0].Name)
			}
		}
	}
	return names
}

// stateless: what a package does to the whole process, or remembers for it, nobody sees at the call. Errors that are
// compared with are no memory.
func stateless(t *testing.T, all []source) {
	for _, s := range all {
		for _, d := range s.tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: func init", s.set.Position(d.Pos()))
				}
			case *ast.GenDecl:
				for _, name := range variables(d) {
					t.Errorf("%s: var %s", s.set.Position(d.Pos()), name)
				}
			}
		}
	}
}

func variables(d *ast.GenDecl) (names []string) {
	if d.Tok != token.VAR {
		return nil
	}
	for _, spec := range d.Specs {
		for _, name := range spec.(*ast.ValueSpec).Names {
			if !strings.HasPrefix(strings.ToLower(name.Name), "err") && name.Name != "_" {
				names = append(names, name.Name)
			}
		}
	}
	return names
}
