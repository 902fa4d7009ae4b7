// The page: starts its parts, then the loop that asks the server. Each part listens to the
// topics of state.js that it shows; none of them knows the others' elements.

import { sample, startCharts } from "./charts.js";
import { startEvents } from "./events.js";
import { startKeyForm } from "./keyform.js";
import { startKeys } from "./keys.js";
import { startMembers } from "./members.js";
import { startNodes } from "./nodes.js";
import { startPlace } from "./place.js";
import { startPolling } from "./poll.js";
import { startRing } from "./ring.js";
import { startSummary } from "./summary.js";
import { startToken } from "./token.js";
import { startTour } from "./tour.js";
import { startTraffic } from "./traffic.js";
import { startView } from "./view.js";

startView();
startSummary();
startToken();
startRing();
startNodes();
startMembers();
startTour();
startKeyForm();
startPlace();
startEvents();
startCharts();
startTraffic();
startKeys();
startPolling(sample);
