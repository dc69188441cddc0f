package alerts

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/wattledger/wattledger/internal/obs"
)

// builtin are the rules that come with the aggregator.
//
//go:embed *.rules.yml
var builtin embed.FS

// builtinPrefix is put before the names of embedded files.
const builtinPrefix = "built-in/"

// ruleSet is what all files say at one time. It is what the rules manager loads
// from: what was found to be right is what comes into force.
type ruleSet struct {
	names  []string // of files
	groups map[string]*rulefmt.RuleGroups
}

// Check reads rule files as New does and names every fault.
func Check(patterns []string) error {
	_, err := readRules(false, patterns)
	return err
}

// readRules reads the built-in files, if wanted, and those that patterns match.
// The error holds every fault of every file, as FILE:LINE: reason.
func readRules(withBuiltin bool, patterns []string) (*ruleSet, error) {
	set := &ruleSet{groups: map[string]*rulefmt.RuleGroups{}}
	var faults []error
	if withBuiltin {
		names, err := fs.Glob(builtin, "*.rules.yml")
		faults = append(faults, err)
		for _, name := range names {
			text, err := builtin.ReadFile(name)
			faults = append(faults, err, set.add(builtinPrefix+name, text))
		}
	}
	files, err := matches(patterns)
	faults = append(faults, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			faults = append(faults, fmt.Errorf("cannot read rules: %w", err))
			continue
		}
		faults = append(faults, set.add(name, text))
	}
	return set, errors.Join(faults...)
}

// matches lists the files, each once. A path without wildcards must be there.
func matches(patterns []string) ([]string, error) {
	var out []string
	var faults []error
	for _, p := range patterns {
		if !strings.ContainsAny(p, `*?[\`) {
			out = append(out, filepath.Clean(p))
			continue
		}
		found, err := filepath.Glob(p)
		if err != nil {
			faults = append(faults, fmt.Errorf("cannot look for rule files %s: %w", p, err))
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out), errors.Join(faults...)
}

// add takes a file into the set.
func (s *ruleSet) add(name string, text []byte) error {
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, promQL(), obs.Slog(zap.NewNop(), ""))
	if len(errs) > 0 {
		return faultsOf(name, text, errs)
	}
	s.names, s.groups[name] = append(s.names, name), groups
	return nil
}

// promQL is the language of rules.
func promQL() parser.Parser { return parser.NewParser(parser.Options{}) }

// Load gives a file of the set.
func (s *ruleSet) Load(name string, _ bool, _ model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	if g := s.groups[name]; g != nil {
		return g, nil
	}
	return nil, []error{fmt.Errorf("BUG: %s was not read", name)}
}

// Parse reads an expression.
func (s *ruleSet) Parse(expr string) (parser.Expr, error) { return promQL().ParseExpr(expr) }

var (
	position = regexp.MustCompile(`^(\d+):\d+: (?:\d+:\d+: )?`)          // of rulefmt
	yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)            // of YAML
	value    = regexp.MustCompile(`"([^"]*)"|: (\S+)$`)                  // that is wrong
	unknown  = regexp.MustCompile(`^field (\S+) not found in type (.*)`) // of YAML, strict
)

// faultsOf writes what is wrong in a file as FILE:LINE: reason, a line each.
func faultsOf(name string, text []byte, errs []error) error {
	var out []error
	seen := map[string]bool{}
	say := func(line int, reason string) {
		at := name
		if line > 0 {
			at += ":" + strconv.Itoa(line)
		}
		if fault := at + ": " + reason; !seen[fault] {
			seen[fault] = true
			out = append(out, errors.New(fault))
		}
	}
	for _, err := range errs {
		reasons := []string{err.Error()}
		if te, ok := errors.AsType[*yaml.TypeError](err); ok {
			reasons = te.Errors
		}
		for _, reason := range reasons {
			line := 0
			for _, re := range []*regexp.Regexp{position, yamlLine} {
				if m := re.FindStringSubmatch(reason); m != nil {
					line, _ = strconv.Atoi(m[1])
					reason = strings.TrimPrefix(reason, m[0])
				}
			}
			if re, ok := errors.AsType[*rulefmt.Error](err); ok && line == 0 {
				line = lineOf(text, re.Group, re.Rule)
			}
			if m := value.FindStringSubmatch(reason); m != nil && line == 0 {
				line = lastWith(text, strings.Trim(m[1]+m[2], `"`))
			}
			if m := unknown.FindStringSubmatch(reason); m != nil {
				reason = m[1] + " is not a key that is known here"
			}
			say(line, reason)
		}
	}
	return errors.Join(out...)
}

// lineOf is where the n-th rule (from 1) of a group begins; 0 if it is not found.
func lineOf(text []byte, group string, n int) int {
	var file struct {
		Groups []struct {
			Name  string      `yaml:"name"`
			Rules []yaml.Node `yaml:"rules"`
		} `yaml:"groups"`
	}
	if yaml.Unmarshal(text, &file) != nil {
		return 0
	}
	for _, g := range file.Groups {
		if g.Name == group && n > 0 && n <= len(g.Rules) {
			return g.Rules[n-1].Line
		}
	}
	return 0
}

// lastWith is where a value stands last in a file; 0 if it does not.
func lastWith(text []byte, word string) (line int) {
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil {
		return 0
	}
	var look func(n *yaml.Node)
	look = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Value == word {
			line = n.Line
		}
		for _, c := range n.Content {
			look(c)
		}
	}
	look(&root)
	return line
}
