/* nvmlDeviceGetFieldValues: each field with its own answer, type and stamp. */
#include "emulated.h"

enum { SCOPE_GPU = 0, SCOPE_MODULE = 1, SCOPE_MEMORY = 2 };

static int uint_value(em_field *f, uint32_t v) {
	f->type = T_UINT;
	f->value.ull = 0;
	f->value.u = v;
	return OK;
}

static int ull_value(em_field *f, uint64_t v) {
	f->type = T_ULL;
	f->value.ull = v;
	return OK;
}

static int int_value(em_field *f, int32_t v) {
	f->type = T_INT;
	f->value.ull = 0;
	f->value.i = v;
	return OK;
}

static int energy(const look *l, em_field *f, int meter) {
	uint64_t uj = counter_uj(l->gpu, meter, l->now);
	return ull_value(f, uj == UINT64_MAX ? uj : uj / 1000);
}

/* busy_ns is the time the GPU was in use since the trace began. */
static uint64_t busy_ns(const look *l) { return energy_uj(l->g->utilization, l->now) * 10; }

static int power(const look *l, em_field *f) {
	int instant = f->field == 186;
	if (!instant && !l->m->average)
		return NOT_SUPPORTED;
	if (f->scope == SCOPE_MODULE) {
		if (!instant || !l->m->module_scope || l->g->module < 0)
			return NOT_SUPPORTED;
		return uint_value(f, instant_mw(l->g->module, l->now));
	}
	if (f->scope == SCOPE_MEMORY && !instant && !l->m->module_scope)
		return uint_value(f, average_mw(l->g->power, l->now, 1000) / 5);
	if (f->scope != SCOPE_GPU)
		return NOT_SUPPORTED;
	if (active(BLANK, l->gpu, l->now))
		return uint_value(f, UINT32_MAX);
	if (active(ABSURD, l->gpu, l->now))
		return uint_value(f, 4000000000u);
	return uint_value(f, instant ? instant_mw(l->g->power, l->now) : average_mw(l->g->power, l->now, 1000));
}

static int scoped_energy(const look *l, em_field *f) {
	if (f->scope == SCOPE_GPU)
		return energy(l, f, l->g->power);
	if (f->scope == SCOPE_MODULE && l->m->scoped_energy && l->g->module >= 0)
		return energy(l, f, l->g->module);
	return NOT_SUPPORTED;
}

static int nvlink_kib(const look *l, em_field *f) {
	const uint32_t links = l->m->architecture == 7 ? 12 : 18;
	uint64_t all = busy_ns(l) / 1000 * 20 / (f->field % 2 ? 3 : 2); /* tens of GB/s while in use */
	if (f->scope == UINT32_MAX)
		return ull_value(f, all / links * links);
	return f->scope < links ? ull_value(f, all / links) : INVALID_ARGUMENT;
}

static int field(const look *l, em_field *f) {
	const machine *m = l->m;
	const fault *r;
	for (int i = 0; i < m->faults; i++) {
		r = &m->fault[i];
		if (r->kind == FIELD && r->from <= l->now && l->now < r->to && (r->gpu < 0 || r->gpu == l->gpu) &&
		    f->field == r->code >> 16)
			return (int)(r->code & 0xffff);
	}
	switch (f->field) {
	case 74: case 80: return ull_value(f, busy_ns(l) / 20);
	case 78: return ull_value(f, (uint64_t)(l->now - m->start) * 1000000 - busy_ns(l));
	case 75: case 76: case 77: case 79: case 81: return ull_value(f, 0);
	case 82: return uint_value(f, 34 + (uint32_t)((uint64_t)average_mw(l->g->power, l->now, 20000) * 40 / m->limit_mw));
	case 83: return energy(l, f, l->g->energy);
	case 94: return uint_value(f, 0);
	case 138: case 139: case 140: case 141: return nvlink_kib(l, f);
	case 142: return uint_value(f, 1);
	case 143: case 144: case 145: return uint_value(f, 0);
	case 185: case 186: return power(l, f);
	case 187: return uint_value(f, m->min_mw);
	case 188: return uint_value(f, m->max_mw);
	case 189: case 190: case 192: return uint_value(f, m->limit_mw);
	case 191: return scoped_energy(l, f);
	case 193: return m->limits_tlimit ? int_value(f, -8) : NOT_SUPPORTED;
	case 194: return m->limits_tlimit ? int_value(f, -2) : NOT_SUPPORTED;
	case 195: return m->limits_tlimit ? int_value(f, 0) : NOT_SUPPORTED;
	case 196: return m->limits_tlimit ? int_value(f, 0) : NOT_SUPPORTED;
	case 197: return uint_value(f, (uint32_t)(busy_ns(l) / 2));
	case 198: return uint_value(f, (uint32_t)(busy_ns(l) / 3));
	case 201: case 202: case 203: case 204: return NOT_SUPPORTED; /* NVLink 5 */
	case 230:
		if (!m->average)
			return NOT_SUPPORTED;
		r = active(RECOVERY, l->gpu, l->now);
		return uint_value(f, r ? r->code : 0);
	case 269: case 270: case 271: return m->average ? ull_value(f, 0) : NOT_SUPPORTED;
	}
	return NOT_SUPPORTED;
}

NVML int nvmlDeviceGetFieldValues(void *device, int count, em_field *values) {
	look l;
	int ret = enter_board(__func__, device, &l);
	if (ret)
		return ret;
	if (count < 1 || !values)
		return INVALID_ARGUMENT;
	for (int i = 0; i < count; i++) {
		em_field *f = &values[i];
		f->ret = field(&l, f);
		f->latency = 12 + 3 * (f->field == 82);
		f->timestamp = f->ret == OK ? (l.now - (l.now % 100 + 100) % 100) * 1000 : 0;
	}
	return OK;
}
