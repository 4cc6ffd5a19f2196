#include "pack.h"

int ea_choose_form(const ea_conv *conv, int isa)
{
    if (ea_fits_winograd(conv, isa))
        return EA_FORM_WINOGRAD;
    return isa == EA_AVX2 ? EA_FORM_GROUPS : EA_FORM_WINDOWS;
}

int64_t ea_pack_bytes(const ea_conv *conv)
{
    switch (conv->form) {
    case EA_FORM_WINOGRAD: return ea_winograd_bytes(conv);
    case EA_FORM_GROUPS: return ea_group_bytes(conv);
    default: return 0;
    }
}

int64_t ea_pack(const ea_conv *conv, const int8_t *taps, uint8_t *to)
{
    switch (conv->form) {
    case EA_FORM_WINOGRAD: return ea_pack_winograd(conv, taps, to);
    case EA_FORM_GROUPS: return ea_pack_groups(conv, to);
    default: return 0;
    }
}

int64_t ea_scratch_bytes(const ea_conv *conv)
{
    return conv->form == EA_FORM_WINOGRAD ? ea_winograd_scratch() : 0;
}
