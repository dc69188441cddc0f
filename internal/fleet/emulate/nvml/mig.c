/* MIG: layouts of the scenario, sparse, changing in time. */
#include "emulated.h"

NVML int nvmlDeviceGetMigMode(void *device, uint32_t *current, uint32_t *pending) {
	look l;
	int number, ret = enter_board(__func__, device, &l);
	if (ret)
		return ret;
	*current = *pending = layout_of(l.gpu, l.now, &number) != 0;
	return OK;
}

NVML int nvmlDeviceGetMaxMigDeviceCount(void *device, uint32_t *out) {
	look l;
	int ret = enter_board(__func__, device, &l);
	if (ret == OK)
		*out = 7;
	return ret;
}

NVML int nvmlDeviceGetMigDeviceHandleByIndex(void *device, uint32_t index, void **out) {
	look l;
	int number, ret = enter_board(__func__, device, &l);
	if (ret)
		return ret;
	if (index >= 7)
		return INVALID_ARGUMENT;
	const layout *y = layout_of(l.gpu, l.now, &number);
	if (!y || !y->slices[index].present)
		return NOT_FOUND;
	*out = handle_of(l.gpu, (int)index, number);
	return OK;
}

/* enter_slice lets MIG handles through only. */
static int enter_slice(const char *call, void *device, look *l) {
	int ret = enter_any(call, device, l);
	return ret == OK && l->slot < 0 ? INVALID_ARGUMENT : ret;
}

NVML int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **out) {
	look l;
	int ret = enter_slice(__func__, device, &l);
	if (ret == OK)
		*out = handle_of(l.gpu, -1, 0);
	return ret;
}

NVML int nvmlDeviceIsMigDeviceHandle(void *device, uint32_t *out) {
	look l;
	int ret = enter_any(__func__, device, &l);
	if (ret == OK)
		*out = l.slot >= 0;
	return ret;
}

NVML int nvmlDeviceGetGpuInstanceId(void *device, uint32_t *out) {
	look l;
	int ret = enter_slice(__func__, device, &l);
	if (ret == OK)
		*out = l.s->gi;
	return ret;
}

NVML int nvmlDeviceGetComputeInstanceId(void *device, uint32_t *out) {
	look l;
	int ret = enter_slice(__func__, device, &l);
	if (ret == OK)
		*out = l.s->ci;
	return ret;
}

NVML int nvmlDeviceGetAttributes_v2(void *device, em_attributes *out) {
	look l;
	int ret = enter_any(__func__, device, &l);
	if (ret)
		return ret;
	*out = (em_attributes){0};
	out->multiprocessors = l.s ? l.s->multiprocessors : l.m->multiprocessors;
	out->copy_engines = l.s ? l.s->gi_slices : 7;
	out->gi_slices = l.s ? l.s->gi_slices : 0;
	out->ci_slices = l.s ? l.s->ci_slices : 0;
	out->memory_mb = l.s ? l.s->memory_mb : l.m->memory_mb;
	return OK;
}
