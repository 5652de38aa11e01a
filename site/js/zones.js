/** Time zones to choose from. */

export function localZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** Fill a select with every IANA zone, the likely ones first. @param {HTMLSelectElement} select @param {string} chosen */
export function fillZones(select, chosen) {
  const zones = [...new Set([chosen, localZone(), "UTC", ...Intl.supportedValuesOf("timeZone")])];
  select.replaceChildren(
    ...zones.map((zone) => Object.assign(document.createElement("option"), { value: zone, textContent: zone })),
  );
  select.value = chosen;
}
