package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/config"
)

func TestKubernetes(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) (*config.Agent, error) {
		t.Helper()
		path := filepath.Join(dir, "agent.yaml")
		if err := os.WriteFile(path, []byte("cluster: c\nstate_dir: "+dir+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.LoadAgent(path, config.AgentFlags{Node: "n1"})
	}
	f := func(text string, change func(*config.Kubernetes)) {
		t.Helper()
		want := config.Kubernetes{Socket: "/var/lib/kubelet/pod-resources/kubelet.sock", PodLogs: "/var/log/pods", Every: time.Second}
		change(&want)
		a, err := load(text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, a.Jobs.Kubernetes); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
	f("", func(*config.Kubernetes) {})
	f("jobs: {kubernetes: {enabled: true, socket: /k, every: 100ms, pod_logs: \"\"}}", func(k *config.Kubernetes) {
		k.Enabled, k.Socket, k.Every, k.PodLogs = true, "/k", 100*time.Millisecond, ""
	})
	f("jobs: {kubernetes: {project: \"label:example.org/project\", kubelet_url: \"https://n1:10250/\"}}", func(k *config.Kubernetes) {
		k.ProjectLabel, k.KubeletURL = "example.org/project", "https://n1:10250"
	})
	f("jobs: {kubernetes: {project: \"annotation:cost\", kubelet_url: \"http://127.0.0.1:10255\"}}", func(k *config.Kubernetes) {
		k.ProjectAnnotation, k.KubeletURL = "cost", "http://127.0.0.1:10255"
	})

	_, err := load(`jobs:
  kubernetes: {enabled: true, socket: "", project: "label:a b", kubelet_url: "http://n1:10255", token_file: /nowhere, every: 20ms}
`)
	for _, want := range []string{
		`jobs.kubernetes.socket: "" is not a path of 1 to 107 bytes`,
		"jobs.kubernetes.project: label:a b is not namespace, label:KEY or annotation:KEY",
		"jobs.kubernetes.kubelet_url: http://n1:10255 is not an address like https://aggregator",
		"jobs.kubernetes.token_file: open /nowhere",
		"jobs.kubernetes.every: 20ms is not a duration from 100ms to 1m",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	for text, want := range map[string]string{
		"label:project":     "jobs.kubernetes.kubelet_url: \"\" is not the kubelet's address",
		"namespace:x":       "jobs.kubernetes.project: namespace:x is not namespace",
		"label:":            "jobs.kubernetes.project: label: is not namespace",
		"annotation:/a":     "jobs.kubernetes.project: annotation:/a is not namespace",
		"label:example.org": "jobs.kubernetes.kubelet_url",
	} {
		if _, err := load("jobs: {kubernetes: {project: \"" + text + "\"}}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: no %q in:\n%v", text, want, err)
		}
	}
}
