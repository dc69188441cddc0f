/* What one call asks of one device. */
#include <stdlib.h>
#include <string.h>

#include "emulated.h"

#define BOARD()                                          \
	look l;                                              \
	int ret = enter_board(__func__, device, &l);         \
	if (ret)                                             \
	return ret

#define ANY()                                            \
	look l;                                              \
	int ret = enter_any(__func__, device, &l);           \
	if (ret)                                             \
	return ret

static uint32_t utilization(const look *l) {
	if (active(BLANK, l->gpu, l->now))
		return UINT32_MAX;
	if (active(ABSURD, l->gpu, l->now))
		return 250;
	return (average_mw(l->g->utilization, l->now, 1000) + 500) / 1000;
}

static int temperature(const look *l) {
	if (active(ABSURD, l->gpu, l->now))
		return 644245923;
	return 30 + (int)((uint64_t)average_mw(l->g->power, l->now, 10000) * 35 / l->m->limit_mw);
}

static uint64_t memory_used(const look *l) {
	uint64_t total = (uint64_t)l->m->memory_mb << 20;
	return (512u << 20) + total / 100 * average_mw(l->g->utilization, l->now, 5000) / 1000 * 8 / 10;
}

static int sliced(const look *l) {
	int number;
	return layout_of(l->gpu, l->now, &number) != NULL;
}

static uint64_t slice_used(const look *l) {
	return memory_used(l) / l->m->memory_mb * l->s->memory_mb;
}

NVML int nvmlDeviceGetTotalEnergyConsumption(void *device, uint64_t *out) {
	BOARD();
	uint64_t uj = counter_uj(l.gpu, l.g->energy, l.now);
	*out = uj == UINT64_MAX ? uj : uj / 1000;
	return OK;
}

NVML int nvmlDeviceGetPowerUsage(void *device, uint32_t *out) {
	BOARD();
	*out = power_mw(l.gpu, l.now);
	return OK;
}

NVML int nvmlDeviceGetUtilizationRates(void *device, em_utilization *out) {
	BOARD();
	if (sliced(&l))
		return NOT_SUPPORTED;
	out->gpu = utilization(&l);
	out->memory = out->gpu / 2;
	return OK;
}

NVML int nvmlDeviceGetMemoryInfo(void *device, em_memory *out) {
	ANY();
	out->total = (uint64_t)(l.s ? l.s->memory_mb : l.m->memory_mb) << 20;
	out->used = (l.s ? slice_used(&l) : memory_used(&l)) + ((uint64_t)600 << 20);
	out->free = out->total - out->used;
	return OK;
}

NVML int nvmlDeviceGetMemoryInfo_v2(void *device, em_memory_v2 *out) {
	ANY();
	if (out->version != VERSIONED(em_memory_v2, 2))
		return ARGUMENT_VERSION_MISMATCH;
	out->total = (uint64_t)(l.s ? l.s->memory_mb : l.m->memory_mb) << 20;
	out->reserved = (uint64_t)600 << 20;
	out->used = l.s ? slice_used(&l) : memory_used(&l);
	out->free = out->total - out->reserved - out->used;
	return OK;
}

NVML int nvmlDeviceGetTemperature(void *device, int sensor, uint32_t *out) {
	BOARD();
	if (sensor != 0)
		return INVALID_ARGUMENT;
	*out = (uint32_t)temperature(&l);
	return OK;
}

NVML int nvmlDeviceGetTemperatureV(void *device, em_temperature *out) {
	BOARD();
	if (out->version != VERSIONED(em_temperature, 1))
		return ARGUMENT_VERSION_MISMATCH;
	if (out->sensor != 0)
		return INVALID_ARGUMENT;
	out->temperature = temperature(&l);
	return OK;
}

NVML int nvmlDeviceGetMarginTemperature(void *device, em_margin *out) {
	BOARD();
	if (out->version != VERSIONED(em_margin, 1))
		return ARGUMENT_VERSION_MISMATCH;
	if (!l.m->limits_tlimit)
		return NOT_SUPPORTED;
	out->margin = 87 - temperature(&l);
	return OK;
}

NVML int nvmlDeviceGetTemperatureThreshold(void *device, int which, uint32_t *out) {
	BOARD();
	static const uint32_t of[] = {92, 89, 95, 85};
	if (l.m->limits_tlimit)
		return NOT_SUPPORTED;
	if (which < 0 || which > 3)
		return INVALID_ARGUMENT;
	*out = of[which];
	return OK;
}

static uint32_t clock_mhz(const look *l, int type) {
	int busy = average_mw(l->g->utilization, l->now, 1000) >= 1000;
	switch (type) {
	case 2: return l->m->architecture == 7 ? 1593 : 2619;
	case 3: return busy ? 1275 : 765;
	default: return busy ? (l->m->architecture == 7 ? 1395 : 1755) : 345;
	}
}

NVML int nvmlDeviceGetClockInfo(void *device, int type, uint32_t *out) {
	BOARD();
	if (type < 0 || type > 3)
		return INVALID_ARGUMENT;
	*out = clock_mhz(&l, type);
	return OK;
}

NVML int nvmlDeviceGetMaxClockInfo(void *device, int type, uint32_t *out) {
	BOARD();
	if (type < 0 || type > 3)
		return INVALID_ARGUMENT;
	*out = type == 2 ? clock_mhz(&l, 2) : l.m->architecture == 7 ? 1410 : 1980;
	return OK;
}

NVML int nvmlDeviceGetCurrentClocksEventReasons(void *device, uint64_t *out) {
	BOARD();
	*out = 0;
	if (average_mw(l.g->utilization, l.now, 1000) < 1000)
		*out |= 1; /* idle */
	if (average_mw(l.g->power, l.now, 100) > l.m->limit_mw / 100 * 97)
		*out |= 4; /* SW power cap */
	return OK;
}

NVML int nvmlDeviceGetPowerManagementLimit(void *device, uint32_t *out) {
	BOARD();
	*out = l.m->limit_mw;
	return OK;
}

NVML int nvmlDeviceGetEnforcedPowerLimit(void *device, uint32_t *out) {
	BOARD();
	*out = l.m->limit_mw;
	return OK;
}

NVML int nvmlDeviceGetPowerManagementDefaultLimit(void *device, uint32_t *out) {
	BOARD();
	*out = l.m->limit_mw;
	return OK;
}

NVML int nvmlDeviceGetPowerManagementLimitConstraints(void *device, uint32_t *least, uint32_t *most) {
	BOARD();
	*least = l.m->min_mw;
	*most = l.m->max_mw;
	return OK;
}

NVML int nvmlDeviceGetTotalEccErrors(void *device, int error, int counter, uint64_t *out) {
	BOARD();
	(void)counter;
	*out = error == 0 ? 2 : 0; /* corrected : uncorrected */
	return OK;
}

NVML int nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
	BOARD();
	*current = *pending = 1;
	return OK;
}

NVML int nvmlDeviceGetRemappedRows(void *device, uint32_t *corrected, uint32_t *uncorrected, uint32_t *pending, uint32_t *failed) {
	BOARD();
	if (sliced(&l))
		return NOT_SUPPORTED;
	*corrected = 1;
	*uncorrected = *pending = *failed = 0;
	return OK;
}

NVML int nvmlDeviceGetMinorNumber(void *device, uint32_t *out) {
	BOARD();
	*out = l.g->minor;
	return OK;
}

NVML int nvmlDeviceGetIndex(void *device, uint32_t *out) {
	BOARD();
	*out = (uint32_t)l.gpu;
	return OK;
}

NVML int nvmlDeviceGetBoardId(void *device, uint32_t *out) {
	BOARD();
	*out = l.g->bus << 8;
	return OK;
}

NVML int nvmlDeviceGetArchitecture(void *device, uint32_t *out) {
	ANY();
	*out = l.m->architecture;
	return OK;
}

NVML int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
	ANY();
	*major = (int)l.m->major;
	*minor = 0;
	return OK;
}

NVML int nvmlDeviceGetPersistenceMode(void *device, int *out) {
	BOARD();
	*out = 1;
	return OK;
}

static int add(em_process *out, unsigned room, unsigned *n, em_process p) {
	if (out && *n < room)
		out[*n] = p;
	++*n;
	return 0;
}

/* processes: those of the scenario; else one for each slice, or for the board,
 * while it is in use. */
static int processes(const look *l, unsigned *count, em_process *out) {
	unsigned room = *count, n = 0;
	int number, told = 0;
	uint64_t used = memory_used(l);
	for (int i = 0; i < l->m->faults; i++) {
		const fault *f = &l->m->fault[i];
		if (f->kind != PROCESS || f->gpu != l->gpu)
			continue;
		told = 1;
		if (f->from <= l->now && l->now < f->to)
			add(out, room, &n, (em_process){f->code, used, UINT32_MAX, UINT32_MAX});
	}
	if (!told && average_mw(l->g->utilization, l->now, 1000) >= 1000) {
		const layout *y = layout_of(l->gpu, l->now, &number);
		if (!y)
			add(out, room, &n, (em_process){(uint32_t)(100000 + l->gpu), used, UINT32_MAX, UINT32_MAX});
		for (int s = 0; y && s < MAX_SLICES; s++)
			if (y->slices[s].present && (l->slot < 0 || l->slot == s))
				add(out, room, &n, (em_process){(uint32_t)(100000 + 10 * l->gpu + s), used / l->m->memory_mb * y->slices[s].memory_mb,
					y->slices[s].gi, y->slices[s].ci});
	}
	*count = n;
	return n > room ? INSUFFICIENT_SIZE : OK;
}

NVML int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, em_process *out) {
	ANY();
	return processes(&l, count, out);
}

NVML int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *device, unsigned *count, em_process *out) {
	ANY();
	(void)out;
	*count = 0;
	return OK;
}

NVML int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, em_process *out) {
	return nvmlDeviceGetMPSComputeRunningProcesses_v3(device, count, out);
}

/* nvmlDeviceGetProcessUtilization: of the last whole second. What the scenario
 * gives no use, and a board without processes, has none. */
NVML int nvmlDeviceGetProcessUtilization(void *device, em_use *out, unsigned *count, uint64_t since) {
	BOARD();
	unsigned room = out ? *count : 0, n = 0, told = 0;
	uint64_t stamp = (uint64_t)(l.now - l.now % 1000) * 1000;
	if (sliced(&l))
		return NOT_SUPPORTED;
	for (int i = 0; i < l.m->faults; i++) {
		const fault *f = &l.m->fault[i];
		if (f->kind != PROCESS || f->gpu != l.gpu)
			continue;
		told = 1;
		uint32_t sm = (uint32_t)atoi(f->name); /* "-" is 0 */
		if (sm == 0 || stamp <= since || (int64_t)(stamp / 1000) <= f->from || l.now >= f->to)
			continue;
		if (n++ < room)
			out[n - 1] = (em_use){f->code, stamp, sm, sm / 2, 0, 0};
	}
	uint32_t used = utilization(&l);
	if (!told && used > 0 && used <= 100 && stamp > since && n++ < room)
		out[n - 1] = (em_use){(uint32_t)(100000 + l.gpu), stamp, used, used / 2, 0, 0};
	*count = n;
	return n == 0 ? NOT_FOUND : n > room ? INSUFFICIENT_SIZE : OK;
}
