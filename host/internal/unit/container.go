package unit

import "strings"

// What a [wire.Unit] has as its runtime.
const (
	runtimeSystemd    = "systemd"
	runtimeDocker     = "docker"
	runtimePodman     = "podman"
	runtimeContainerd = "containerd"
	runtimeCrio       = "crio"
	runtimeKubernetes = "kubernetes"
	runtimeLxc        = "lxc"
	runtimeMachine    = "machine" // registered with systemd-machined: nspawn, libvirt
	runtimeNspawn     = "nspawn"
	runtimeRunc       = "runc" // of a container whose engine is not known
	runtimeFlatpak    = "flatpak"
	runtimeSnap       = "snap"
)

const idLength = 64 // hexadecimal digits of a container's id

// container reads the name of one cgroup as that of a container or app.
func container(name, parent string, kube bool, depth int) mark {
	bare, scope := strings.CutSuffix(name, ".scope")
	if isID(bare) {
		if parent == "libpod_parent" { // a pod of Podman; its containers are below
			return mark{}
		}
		return mark{runtime: runtimeOf(parent, kube), id: bare, container: true}
	}
	if m := engine(bare, kube, scope); m.runtime != "" {
		return m
	}
	if m := machine(name, parent, depth); m.runtime != "" {
		return m
	}
	return packaged(name)
}

// runtimeOf tells who names a container by its id alone.
func runtimeOf(parent string, kube bool) string {
	switch {
	case kube:
		return runtimeKubernetes
	case parent == "docker":
		return runtimeDocker
	}
	return runtimeRunc
}

// engine reads what container engines name cgroups: engine, dash, id; or slice, colon, engine, colon, id, if the engine
// was told systemd's way of naming but does not use systemd.
func engine(name string, kube, scope bool) mark {
	if _, rest, has := strings.Cut(name, ":"); has {
		if prefix, id, two := strings.Cut(rest, ":"); two && isID(id) {
			return named(prefix, id, kube)
		}
	}
	dash := strings.LastIndexByte(name, '-')
	if dash > 0 && isID(name[dash+1:]) {
		if m := named(name[:dash], name[dash+1:], kube); scope || m.runtime != runtimeRunc {
			return m
		}
	}
	if id, has := strings.CutPrefix(name, "runc-"); has && scope && id != "" {
		return mark{runtime: runtimeRunc, id: id, container: true}
	}
	return mark{}
}

func named(prefix, id string, kube bool) mark {
	m := mark{runtime: runtimeRunc, id: id, container: true}
	switch prefix {
	case "docker":
		m.runtime = runtimeDocker
	case "libpod", "libpod-payload", "libpod-conmon":
		m.runtime = runtimePodman
	case "cri-containerd", "nerdctl":
		m.runtime = runtimeContainerd
	case "crio", "crio-conmon":
		m.runtime = runtimeCrio
	}
	m.monitor = strings.HasSuffix(prefix, "-conmon")
	if kube {
		m.runtime = runtimeKubernetes
	}
	return m
}

// machine reads the names of systemd-machined, nspawn and LXC.
func machine(name, parent string, depth int) mark {
	if id, is := between(name, "machine-", ".scope"); is && id != "" {
		return mark{runtime: runtimeMachine, id: decode(id)}
	}
	if id, is := between(name, "systemd-nspawn@", ".service"); is && id != "" {
		return mark{runtime: runtimeNspawn, id: decode(id)}
	}
	if id, is := strings.CutPrefix(name, "lxc.payload."); is && id != "" {
		return mark{runtime: runtimeLxc, id: id}
	}
	if id, is := strings.CutPrefix(name, "lxc.monitor."); is && id != "" {
		return mark{runtime: runtimeLxc, id: id, monitor: true}
	}
	switch {
	case parent == "lxc.payload", parent == "lxc" && depth == 1:
		return mark{runtime: runtimeLxc, id: name}
	case parent == "lxc.monitor":
		return mark{runtime: runtimeLxc, id: name, monitor: true}
	}
	return mark{}
}

// packaged reads the names of Flatpak (app-flatpak-ID-PID.scope) and Snap (snap.NAME.APP….scope or .service).
func packaged(name string) mark {
	if id, is := between(name, "app-flatpak-", ".scope"); is {
		dash := strings.LastIndexByte(id, '-')
		if dash > 0 && isDigits(id[dash+1:]) {
			return mark{runtime: runtimeFlatpak, id: decode(id[:dash])}
		}
	}
	id, is := strings.CutPrefix(name, "snap.")
	if !is || !isUnit(name) {
		return mark{}
	}
	snap, rest, _ := strings.Cut(id, ".")
	app, _, more := strings.Cut(rest, ".")
	if snap == "" || !more {
		return mark{}
	}
	// One run is told from another by a UUID that is appended to the app.
	if cut := len(app) - len("-00000000-0000-0000-0000-000000000000"); cut > 0 && app[cut] == '-' && isUUID(app[cut+1:]) {
		app = app[:cut]
	}
	return mark{runtime: runtimeSnap, id: decode(snap), name: decode(snap + "." + app)}
}

// pod reads the name of a pod's cgroup: pod<uid>, or a slice that ends in -pod<uid>, its dashes written as underscores.
func pod(name string) mark {
	name, _, _ = strings.Cut(name, ".slice")
	at := strings.LastIndex(name, "pod")
	if at < 0 || at > 0 && name[at-1] != '-' {
		return mark{}
	}
	uid := strings.ReplaceAll(name[at+len("pod"):], "_", "-")
	if !isUUID(uid) && !isHex(uid, 32) { // the kubelet's own pods have a hash
		return mark{}
	}
	return mark{runtime: runtimeKubernetes, id: "pod" + uid}
}

func isKubepods(name string) bool {
	return name == "kubepods" || strings.HasPrefix(name, "kubepods.") || strings.HasPrefix(name, "kubepods-") ||
		strings.HasPrefix(name, "kubelet-kubepods")
}

func isID(text string) bool { return isHex(text, idLength) }

func isHex(text string, length int) bool {
	if len(text) != length {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isUUID(text string) bool {
	return len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' &&
		isHex(strings.ReplaceAll(text, "-", ""), 32)
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
