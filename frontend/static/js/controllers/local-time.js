// Shows a <time> in the reader's zone and language; the exact moment stays in its title.
export default class {
  constructor(element) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) return;
    element.title = element.textContent;
    element.textContent = moment.toLocaleString(undefined, {
      dateStyle: "medium",
      timeStyle: "short",
    });
  }
}
