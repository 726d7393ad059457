package unit

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxContainerState = 1 << 20 // bytes of a file about one container
	maxStorageState   = 4 << 20 // of one about all of Podman's
)

// found is what a runtime's state says about a container.
type found struct {
	runtime string
	name    string
	origin  string // whose state it was; "" if none says anything
}

// complete adds it to what the path says.
func (s found) complete(m mark, source string) (mark, string) {
	if s.origin == "" {
		return m, source
	}
	if m.runtime == runtimeRunc {
		m.runtime = s.runtime
	}
	if s.name != "" {
		m.name = s.name
	}
	return m, source + "+" + s.origin
}

// state looks a container up, first where its runtime keeps what it knows. It is asked only for ids whose cgroup root
// made.
func (f *Finder) state(m mark) found {
	if !isFileName(m.id) {
		return found{}
	}
	readers := []func(mark) found{f.docker, f.containerd, f.storage, f.crio, f.runc}
	if m.weak {
		readers = readers[4:]
	}
	var best found
	for _, read := range readers {
		got := read(m)
		if got.name != "" {
			return got
		}
		if best.origin == "" {
			best = got
		}
	}
	return best
}

func (f *Finder) docker(m mark) found {
	var config struct{ ID, Name string }
	if f.read("var/lib/docker/containers/"+m.id+"/config.v2.json", maxContainerState, &config) != nil || config.ID != m.id {
		return found{}
	}
	return found{runtime: runtimeDocker, name: plain(strings.TrimPrefix(config.Name, "/")), origin: "docker"}
}

// annotated is the part of an OCI configuration that names what runs.
type annotated struct {
	Annotations map[string]string `json:"annotations"`
}

func (f *Finder) containerd(m mark) found {
	for _, namespace := range []string{"k8s.io", "default", "moby"} {
		var config annotated
		path := "run/containerd/io.containerd.runtime.v2.task/" + namespace + "/" + m.id + "/config.json"
		if f.read(path, maxContainerState, &config) != nil {
			continue
		}
		a := config.Annotations
		name := podName(a["io.kubernetes.cri.sandbox-namespace"], a["io.kubernetes.cri.sandbox-name"],
			a["io.kubernetes.cri.container-name"], a["io.kubernetes.cri.container-type"] == "sandbox")
		if name == "" {
			name = plain(a["nerdctl/name"])
		}
		return found{runtime: runtimeContainerd, name: name, origin: "containerd"}
	}
	return found{}
}

// storage is the list that Podman and CRI-O share.
func (f *Finder) storage(m mark) found {
	if m.runtime != runtimePodman && m.runtime != runtimeRunc {
		return found{}
	}
	for _, list := range []string{"containers.json", "volatile-containers.json"} {
		var containers []struct {
			ID    string   `json:"id"`
			Names []string `json:"names"`
		}
		if f.read("var/lib/containers/storage/overlay-containers/"+list, maxStorageState, &containers) != nil {
			continue
		}
		for _, c := range containers {
			if c.ID == m.id && len(c.Names) > 0 {
				return found{runtime: runtimePodman, name: plain(c.Names[0]), origin: "podman"}
			}
		}
	}
	return found{}
}

func (f *Finder) crio(m mark) found {
	for _, storage := range []string{"run/containers/storage", "var/lib/containers/storage"} {
		var config annotated
		if f.read(storage+"/overlay-containers/"+m.id+"/userdata/config.json", maxContainerState, &config) != nil {
			continue
		}
		a := config.Annotations
		name := podName(a["io.kubernetes.pod.namespace"], a["io.kubernetes.pod.name"], a["io.kubernetes.container.name"],
			a["io.kubernetes.cri-o.ContainerType"] == "sandbox")
		if name != "" {
			return found{runtime: runtimeCrio, name: name, origin: "crio"}
		}
	}
	return found{}
}

// runc keeps no names, but the cgroups of every container that it runs.
func (f *Finder) runc(m mark) found {
	var state struct {
		ID      string            `json:"id"`
		Cgroups map[string]string `json:"cgroup_paths"`
	}
	if f.read("run/runc/"+m.id+"/state.json", maxContainerState, &state) != nil || state.ID != m.id {
		return found{}
	}
	for _, path := range state.Cgroups {
		if strings.HasSuffix(path, "/"+m.path) {
			return found{runtime: runtimeRunc, origin: "runc"}
		}
	}
	return found{}
}

// podName is namespace/pod/container, "" unless all are known. The sandbox that holds a pod's namespaces has no name.
func podName(namespace, pod, container string, sandbox bool) string {
	if container == "" && sandbox {
		container = "(sandbox)"
	} else if container = plain(container); container == "" {
		return ""
	}
	if namespace, pod = plain(namespace), plain(pod); namespace == "" || pod == "" {
		return ""
	}
	return namespace + "/" + pod + "/" + container
}

// plain gives back a name that an engine accepts, "" for any other text: a name comes from whoever started the container.
func plain(name string) string {
	if len(name) > maxName || !isFileName(name) {
		return ""
	}
	return name
}

func isFileName(name string) bool {
	return name != "" && name[0] != '.' && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.' && r != '+'
	}) < 0
}

// read decodes a JSON file of root's below Options.Root. No part of its path may be a link.
func (f *Finder) read(path string, limit int64, into any) error {
	file, err := f.open(path, limit)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func (f *Finder) open(path string, limit int64) (*os.File, error) {
	root, err := unix.Open(f.options.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.options.Root, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	file := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		file.Close()
		return nil, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != f.owner || st.Mode&0o022 != 0 || st.Nlink != 1 || st.Size > limit {
		file.Close()
		return nil, fmt.Errorf("%w: owner %d, mode %o, %d bytes", errRefused, st.Uid, st.Mode, st.Size)
	}
	return file, nil
}
