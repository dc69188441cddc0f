// Package alerts holds the alert rules that come with the aggregator, and
// evaluates them, and those of the site, over the store of series with
// Prometheus' own rules manager; alerts go to Alertmanagers (v2 API). Whom an
// alert reaches, by mail or pager, is the Alertmanager's business.
//
// The files *.rules.yml are what promtool and a Prometheus read, too; each rule
// has a test in *.test.yml where it fires and one where it stays quiet, and a
// page in docs/runbooks. Rules see the aggregator's own metrics as series of
// the job wattledger-aggregator; a label "job" of such a metric is there
// "exported_job", as with any scrape.
//
// While the store is not open, rules wait. A rule file that is wrong is refused
// as a whole with file, line and reason, and the rules that were in force go on.
// An alert that waited or fired goes on after a restart where it was, if that
// took less than an hour.
package alerts
