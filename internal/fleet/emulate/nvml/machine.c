/* The emulated machine: its files, its clock, its meters and its faults. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "emulated.h"

static machine loaded;
static int readable;

int64_t now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_until_ms(int64_t at) {
	struct timespec t = {at / 1000, at % 1000 * 1000000};
	while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == EINTR) {
	}
}

/* folder is the emulator's: WATTLEDGER_EMULATE, or the one above the library's. */
static int folder(char *out, size_t size) {
	const char *env = getenv("WATTLEDGER_EMULATE");
	Dl_info info;
	char path[PATH_MAX];
	if (env && *env)
		return snprintf(out, size, "%s", env) < (int)size;
	if (!dladdr((void *)folder, &info) || !realpath(info.dli_fname, path))
		return 0;
	for (int up = 0; up < 2; up++) {
		char *slash = strrchr(path, '/');
		if (!slash)
			return 0;
		*slash = 0;
	}
	return snprintf(out, size, "%s", path) < (int)size;
}

/* trace.bin: "WLTRACE2", start, quantum, quanta, meters; names; offsets; sums. */
static int map_trace(machine *m, const char *path) {
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	const char *p = fstat(fd, &st) ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED || st.st_size < 40 || memcmp(p, "WLTRACE2", 8))
		return 0;
	const uint64_t *head = (const uint64_t *)p;
	m->start = (int64_t)head[1];
	m->quantum = (int64_t)head[2];
	m->quanta = head[3];
	m->meters = head[4];
	m->names = p + 40;
	m->offset = (const uint64_t *)(m->names + 32 * m->meters);
	m->sum = m->offset + m->meters;
	return (uint64_t)st.st_size == 40 + m->meters * (40 + 8 * (m->quanta + 1)) && m->quantum > 0;
}

static int meter(machine *m, const char *name) {
	for (uint64_t i = 0; i < m->meters; i++)
		if (!strncmp(m->names + 32 * i, name, 32))
			return (int)i;
	return -1;
}

static int kind_of(const char *word) {
	static const char *const words[] = {"lost", "reset", "reload", "hang", "call", "field", "mismatch", "blank",
		"backwards", "stuck", "absurd", "xid", "restart", "recovery", "process"};
	for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
		if (!strcmp(words[i], word))
			return i;
	return -1;
}

static int read_gpu(machine *m, const char *line) {
	char energy[32], power[32], util[32], module[32];
	if (m->gpus == MAX_GPUS)
		return 0;
	gpu *g = &m->gpu[m->gpus++];
	if (sscanf(line, "gpu %95s %31s %31s %u %31s %31s %31s %31s", g->uuid, g->pci, g->serial, &g->minor, energy, power, util, module) != 8 ||
	    sscanf(g->pci, "%x:%x:", &g->domain, &g->bus) != 2)
		return 0;
	g->energy = meter(m, energy);
	g->power = meter(m, power);
	g->utilization = meter(m, util);
	g->module = meter(m, module);
	return g->energy >= 0 && g->power >= 0 && g->utilization >= 0;
}

static int read_layout(machine *m, char *line) {
	int used;
	if (m->layouts == MAX_LAYOUTS)
		return 0;
	layout *l = &m->layout[m->layouts++];
	if (sscanf(line, "mig %ld %d%n", &l->from, &l->gpu, &used) != 2)
		return 0;
	for (char *save, *word = strtok_r(line + used, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		int slot;
		slice s = {.present = 1};
		if (sscanf(word, "%d:%u:%u:%u:%u:%u:%u:%95s", &slot, &s.gi, &s.ci, &s.gi_slices, &s.ci_slices, &s.memory_mb, &s.multiprocessors, s.uuid) != 8 ||
		    slot < 0 || slot >= MAX_SLICES)
			return 0;
		l->slices[slot] = s;
	}
	return 1;
}

static int read_line(machine *m, char *line) {
	char word[32];
	if (sscanf(line, "%31s", word) != 1)
		return 1;
	if (!strcmp(word, "gpu"))
		return read_gpu(m, line);
	if (!strcmp(word, "mig"))
		return read_layout(m, line);
	if (!strcmp(word, "name"))
		return sscanf(line, "name %95[^\n]", m->name) == 1;
	if (!strcmp(word, "profile"))
		return sscanf(line, "profile %15s %79s %79s %d %d %d %d %u %u %u %u %u %u %u %x %lu", m->profile, m->driver, m->version,
			&m->average, &m->module_scope, &m->scoped_energy, &m->limits_tlimit, &m->architecture, &m->major, &m->limit_mw,
			&m->min_mw, &m->max_mw, &m->memory_mb, &m->multiprocessors, &m->pci_device_id, &m->seed) == 16;
	if (!strcmp(word, "fault")) {
		if (m->faults == MAX_FAULTS)
			return 0;
		fault *f = &m->fault[m->faults++];
		if (sscanf(line, "fault %ld %ld %31s %d %u %63s", &f->from, &f->to, word, &f->gpu, &f->code, f->name) != 6)
			return 0;
		return (f->kind = kind_of(word)) >= 0;
	}
	return 0;
}

static void load(void) {
	char dir[PATH_MAX - 16], path[PATH_MAX], *line = NULL;
	size_t room = 0;
	machine *m = &loaded;
	if (!folder(dir, sizeof dir))
		return;
	snprintf(path, sizeof path, "%s/trace.bin", dir);
	if (!map_trace(m, path))
		return;
	snprintf(path, sizeof path, "%s/nvml.txt", dir);
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	readable = 1;
	while (readable && getline(&line, &room, f) > 0)
		readable = read_line(m, line);
	free(line);
	fclose(f);
}

machine *the_machine(void) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	return readable ? &loaded : NULL;
}

static int64_t floor_to(int64_t ms, int64_t step) { return ms - ((ms % step) + step) % step; }

uint64_t energy_uj(int meter, int64_t ms) {
	const machine *m = &loaded;
	const uint64_t *sum = m->sum + meter;
	if (ms <= m->start)
		return 0;
	uint64_t d = (uint64_t)(ms - m->start), quantum = (uint64_t)m->quantum;
	uint64_t q = d / quantum, i = q % m->quanta, rounds = q / m->quanta;
	uint64_t from = sum[i * m->meters], to = sum[(i + 1) * m->meters];
	return (rounds ? rounds * sum[m->quanta * m->meters] : 0) + from + (to - from) * (d % quantum) / quantum;
}

uint32_t average_mw(int meter, int64_t ms, int64_t window) {
	ms = floor_to(ms, 100);
	return (uint32_t)((energy_uj(meter, ms) - energy_uj(meter, ms - window)) / (uint64_t)window);
}

/* instant_mw is what a sensor sees that looks at 25 ms of each 100: off the mean
 * of the whole by up to 4 %, as much up as down. */
uint32_t instant_mw(int meter, int64_t ms) {
	const machine *m = &loaded;
	ms = floor_to(ms, 100);
	uint64_t h = (uint64_t)(ms - m->start) / 100 * 0x9e3779b97f4a7c15u + m->seed * 31 + (uint64_t)meter;
	h ^= h >> 31;
	h *= 0xbf58476d1ce4e5b9u;
	h ^= h >> 29;
	return (uint32_t)((uint64_t)average_mw(meter, ms, 100) * (9600 + h % 801) / 10000);
}

uint32_t power_mw(int gpu, int64_t ms) {
	const machine *m = &loaded;
	if (active(BLANK, gpu, ms))
		return UINT32_MAX;
	if (active(ABSURD, gpu, ms))
		return 4000000000u;
	return m->average ? average_mw(m->gpu[gpu].power, ms, 1000) : instant_mw(m->gpu[gpu].power, ms);
}

const fault *active(int kind, int gpu, int64_t ms) {
	const machine *m = &loaded;
	for (int i = 0; i < m->faults; i++) {
		const fault *f = &m->fault[i];
		if (f->kind == kind && f->from <= ms && ms < f->to && (f->gpu < 0 || gpu < 0 || f->gpu == gpu))
			return f;
	}
	return NULL;
}

uint64_t counter_uj(int gpu, int meter, int64_t ms) {
	const machine *m = &loaded;
	const fault *f;
	if (active(BLANK, gpu, ms))
		return UINT64_MAX;
	int absurd = active(ABSURD, gpu, ms) != NULL, backwards = active(BACKWARDS, gpu, ms) != NULL;
	if ((f = active(STUCK, gpu, ms)))
		ms = f->from;
	ms = floor_to(ms, 100);
	int64_t restart = -1;
	for (int i = 0; i < m->faults; i++) {
		f = &m->fault[i];
		if (f->kind == RESTART && (f->gpu < 0 || f->gpu == gpu) && f->from <= ms && f->from > restart)
			restart = f->from;
	}
	uint64_t v = energy_uj(meter, ms);
	v = restart < 0 ? v + m->offset[meter] : v - energy_uj(meter, floor_to(restart, 100));
	if (backwards)
		v = v > 10000000000u ? v - 10000000000u : v / 2;
	return absurd ? v + 1000000000000000u : v;
}

const layout *layout_of(int gpu, int64_t ms, int *number) {
	const machine *m = &loaded;
	const layout *found = NULL;
	for (int i = 0; i < m->layouts; i++)
		if (m->layout[i].gpu == gpu && m->layout[i].from <= ms) {
			found = &m->layout[i];
			*number = i;
		}
	return found;
}
